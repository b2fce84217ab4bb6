// The definition of convolution as loops: the fast kernels' oracle, and what runs where they do not apply.
#pragma once
#include "kernels/conv.h"
#include "kernels/vec.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

void conv_naive(const ConvPlan& plan, int n, const float* from, const float* weight, float* to,
                const Epilogue& epilogue);
void conv_naive_backward_weight(const ConvPlan& plan, int n, const float* input, const float* grad_output,
                                float* grad_weight);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
