#include "bindings/bind.h"
#include "kernels/table.h"

namespace nb = nanobind;

namespace fovea {

using Words = nb::ndarray<nb::numpy, uint32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

void bind_random(nb::module_& m) {
    m.def(
        "random_bits",
        [](uint64_t key, uint64_t first, const Words& out) {
            kernels().random.bits(key, first, static_cast<long>(out.size()), out.data());
        },
        nb::arg("key"), nb::arg("first"), nb::arg("out").noconvert(), ReleaseLock(),
        "Fills `out` with words first, first + 1, ... of the key's Philox stream (fovea.random.bits).");
}

}  // namespace fovea
