// One bind_ function per file of bindings, and the array types that they share.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

namespace fovea {

using Array = nanobind::ndarray<nanobind::numpy, const float, nanobind::c_contig, nanobind::device::cpu>;
using OutArray = nanobind::ndarray<nanobind::numpy, float, nanobind::c_contig, nanobind::device::cpu>;
using ReleaseLock = nanobind::call_guard<nanobind::gil_scoped_release>;

void bind_random(nanobind::module_& m);
void bind_conv(nanobind::module_& m);
void bind_peak(nanobind::module_& m);
void bind_bf16(nanobind::module_& m);
void bind_program(nanobind::module_& m);

}  // namespace fovea
