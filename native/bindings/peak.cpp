#include <stdexcept>

#include "bindings/bind.h"
#include "kernels/table.h"

namespace nb = nanobind;

namespace fovea {

void bind_peak(nb::module_& m) {
    const auto rounds = nb::arg("rounds");
    m.def(
        "peak_fma", [](long n) { return kernels().peak.fma(n); }, rounds, ReleaseLock(),
        "float32 multiply-accumulates in registers, on all threads; returns the operations done.");
    m.def(
        "peak_bf16", [](long n) { return kernels().peak.dot_bf16(n); }, rounds, ReleaseLock(),
        "The same in bfloat16; 0 where the CPU lacks the instruction.");
    m.def("peak_int8", [](long n) { return kernels().peak.dot_int8(n); }, rounds, ReleaseLock(), "The same in int8.");
    m.def(
        "peak_steps", [](long n) { return kernels().peak.simple_steps(n); }, rounds, ReleaseLock(),
        "Integer additions that depend on little; returns the instructions done.");
    m.def(
        "read_memory",
        [](const Array& from) { return kernels().peak.read(from.data(), static_cast<long>(from.size())); },
        nb::arg("array").noconvert(), ReleaseLock(), "Reads an array on all threads; returns the bytes.");
    m.def(
        "copy_memory",
        [](const Array& from, const OutArray& to) {
            if (from.size() != to.size()) throw std::invalid_argument("expected two arrays of one size");
            return kernels().peak.copy(from.data(), to.data(), static_cast<long>(from.size()));
        },
        nb::arg("array").noconvert(), nb::arg("out").noconvert(), ReleaseLock(),
        "Copies an array on all threads; returns the bytes read and written.");
}

}  // namespace fovea
