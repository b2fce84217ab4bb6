// Backward weight in bf16: units of work (a band of two images) are copied with their pixels in pairs, and register
// tiles run over the copies. With few weights groups of units are summed apart and added in order; with many the rows
// and columns of the weights are split.
#pragma once
#include "kernels/dot.h"
#include "kernels/vec.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

// Completes a plan whose shape, pass and batch are set.
void plan_bf16_weight(ConvPlan& plan);
void run_bf16_weight(const ConvPlan& plan, int n, const bf16* input, const bf16* grad_output, float* grad_weight,
                     float* scratch);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
