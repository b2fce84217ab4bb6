// Forward, and backward data of stride 1, in bf16 with few input channels: conv_merged.h's way.
#pragma once
#include "kernels/dot.h"
#include "kernels/vec.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

// Where pairs of merged rows are fewer than pairs of the channels of each tap.
bool bf16_merging_applies(ConvPass pass, const ConvShape& shape);
void plan_bf16_merged(ConvPlan& plan);
void pack_bf16_merged(const ConvPlan& plan, const float* weight, float* packed);
void run_bf16_merged(const ConvPlan& plan, int n, const bf16* from, const float* packed, void* to,
                     const Epilogue& epilogue);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
