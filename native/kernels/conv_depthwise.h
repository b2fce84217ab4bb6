// Depthwise convolution (groups = cin = cout): every channel is a convolution of its own, so vectors are channels and
// no weights are packed. Bound by memory: what counts is that a tile of pixels finds its rows in the first-level cache.
#pragma once
#include "kernels/bf16.h"
#include "kernels/conv.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

void plan_conv_depthwise(ConvPlan& plan);
// Forward and backward data. Activations are stored as S, float or bf16; products and sums are float32.
template <class S>
void run_conv_depthwise(const ConvPlan& plan, int n, const S* from, const float* weight, S* to,
                        const Epilogue& epilogue);
template <class S>
void run_depthwise_weight(const ConvPlan& plan, int n, const S* input, const S* grad_output, float* grad_weight,
                          float* scratch);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
