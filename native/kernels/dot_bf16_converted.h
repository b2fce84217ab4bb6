// The way of bf16 convolution that is right for everything: float32 copies of a few images at a time, and the float32
// kernels on them.
#pragma once
#include "kernels/dot.h"
#include "kernels/vec.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

void plan_bf16_converted(ConvPlan& plan);
void pack_bf16_converted(const ConvPlan& plan, const float* weight, float* packed);
void run_bf16_converted(const ConvPlan& plan, int n, const bf16* from, const float* weight, void* to, float* scratch,
                        const Epilogue& epilogue);
void run_bf16_converted_weight(const ConvPlan& plan, int n, const bf16* input, const bf16* grad_output,
                               float* grad_weight, float* scratch);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
