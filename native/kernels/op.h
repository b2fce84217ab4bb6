// Everything but convolution has one signature: a kernel gets the operands of its instruction (what it writes first,
// then what it reads; null where the graph has none), resolved sizes and numbers, and scratch. The lowering (Python)
// names kernels by `name`; the executor checks the counts when an instruction is added.
#pragma once
#include <cstddef>
#include <cstdint>

namespace fovea {

struct OpCall {
    long n;                // samples of this call; activations are n times their size for one sample
    void* const* operand;  // as the kernel's comment lists them
    const long* ints;
    const float* reals;
    float* scratch;  // shared by the pieces of this call
};

struct OpKernel {
    const char* name;
    int operands, ints, reals;  // -1: as many as the instruction brings
    void (*run)(const OpCall& call);
    size_t (*scratch)(const OpCall& call);  // floats that run() needs, given n = capacity and ints; may be null
    // The form for activations stored as bf16: bit i of `stored` is set when operand i is one, and all of them are.
    uint32_t stored = 0;
    void (*run_bf16)(const OpCall& call) = nullptr;  // null: there is none
};

struct OpList {
    const OpKernel* first;
    int count;
};

// One list per file of kernels.
constexpr int op_files = 17;
struct OpKernels {
    OpList lists[op_files];
};

}  // namespace fovea
