// Kernels built on instructions that multiply short numbers and add the products of neighbours to a wider sum
// (vdpbf16ps, vpdpbusd). They live in the files dot_*, which are compiled for every instruction set, where plain
// arithmetic gives the same sums, and once more for "v4d": v4 with these instructions.
#pragma once
#include "kernels/conv.h"
#include "kernels/op.h"
#include "kernels/storage.h"

namespace fovea {

// Convolution (dense layers: of one pixel) on bf16 activations: products of bf16 numbers, float32 sums, three passes.
// Weights are float32 in the store, in conv.h's layout, and rounded to bf16 when they are packed; Winograd's algorithm,
// depthwise convolutions and what the tiles exclude (`converted`) read activations as bf16 and compute in float32. Each
// output is rounded once. Shapes, passes, plans and the epilogue (float32 bias, clamp) are conv.h's.
struct Bf16ConvKernels {
    // float_output: forward and backward data write float32 instead of bf16.
    ConvPlan (*plan)(ConvPass pass, const ConvShape& shape, int batch, bool float_output);
    // Tests and benchmarks: by Winograd with 2x2 or 4x4 outputs where it applies, or never by it (0).
    ConvPlan (*plan_winograd)(ConvPass pass, const ConvShape& shape, int batch, bool float_output, int outputs);
    // Fills plan.packed_floats floats; renewed whenever the weights change. 0: run() reads the weights as they are.
    void (*pack)(const ConvPlan& plan, const float* weight, float* packed);
    // to: bf16, or float where the plan says float_output. scratch: plan.scratch_floats.
    void (*run)(const ConvPlan& plan, int n, const bf16* from, const float* weight, void* to, float* scratch,
                const Epilogue& epilogue);
    // Gradients are float32; grad_bias may be null.
    void (*run_backward_weight)(const ConvPlan& plan, int n, const bf16* input, const bf16* grad_output,
                                float* grad_weight, float* grad_bias, float* scratch);
};

constexpr int stored_files = 11;

struct DotKernels {
    const char* isa;  // as KernelTable's, or "v4d"
    Bf16ConvKernels bf16;
    OpList stored[stored_files];  // kernels of op.h whose forms for bf16 are to be used: one instruction rounds there
    OpList int8;                  // kernels of int8 inference (dot_int8.h), named in instructions as those of op.h
};

// Chosen on the first call (runtime/cpu.cpp): v4d where the CPU has its instructions and FOVEA_ISA is not set, else the
// set of kernels().
const DotKernels& dot_kernels();

}  // namespace fovea
