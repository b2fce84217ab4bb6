// The extension module fovea.engines.native._core. Bindings only check and pass on: no arithmetic here.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bindings/bind.h"
#include "runtime/cpu.h"
#include "runtime/pool.h"

namespace nb = nanobind;

NB_MODULE(_core, m) {
    m.doc() = "Compiled core of fovea's native engine.";
    m.def("cpu_features", &fovea::cpu_features, "Instruction-set extensions that matter here and that this CPU has.");
    m.def("isa", [] { return std::string(fovea::kernels().isa); }, "Instruction set of the kernels in use.");
    m.def(
        "dot_isa", [] { return std::string(fovea::dot_kernels().isa); },
        "Instruction set of the dot-product kernels in use (bf16, int8): v4d where the CPU multiplies such numbers.");
    m.def("vector_floats", [] { return fovea::kernels().vector_floats; }, "Floats in one vector of that set.");
    m.def("set_threads", &fovea::set_threads, nb::arg("n"), "Number of threads, 1 to 256.");
    m.def("get_threads", &fovea::get_threads);
    m.def(
        "open_regions",
        [](long count, long pieces) {
            for (long i = 0; i < count; i++) fovea::parallel(pieces, [](long) {});
        },
        nb::arg("count"), nb::arg("pieces"), fovea::ReleaseLock(), "Opens regions with nothing to do, one by one.");
    fovea::bind_random(m);
    fovea::bind_conv(m);
    fovea::bind_peak(m);
    fovea::bind_bf16(m);
    fovea::bind_program(m);
}
