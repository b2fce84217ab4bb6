// Depthwise convolution (groups = cin = cout): every channel is a convolution of its own, so vectors are channels and
// no weights are packed. Bound by memory: what counts is that a tile of pixels finds its rows in the first-level cache.
#pragma once
#include "kernels/conv.h"
#include "kernels/vec.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

void plan_conv_depthwise(ConvPlan& plan);
// Forward and backward data.
void run_conv_depthwise(const ConvPlan& plan, int n, const float* from, const float* weight, float* to,
                        const Epilogue& epilogue);
void run_depthwise_weight(const ConvPlan& plan, int n, const float* input, const float* grad_output, float* grad_weight,
                          float* scratch);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
