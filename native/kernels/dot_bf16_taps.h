// Forward and backward data in bf16 by register tiles.
#pragma once
#include "kernels/dot.h"
#include "kernels/vec.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

// Whether the tiles are made for it. Completes a plan whose shape, pass and batch are set.
bool bf16_taps_apply(const ConvShape& shape);
void plan_bf16_taps(ConvPlan& plan);
void pack_bf16_taps(const ConvPlan& plan, const float* weight, float* packed);
void run_bf16_taps(const ConvPlan& plan, int n, const bf16* from, const float* packed, void* to,
                   const Epilogue& epilogue);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
