// Forward, and backward data of stride 1, with few input channels: a row of the kernel and the channels are joined into
// one long run (they follow each other in memory), read from a padded copy of the image.
#pragma once
#include "kernels/tap_conv.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

bool merging_applies(ConvPass pass, const ConvShape& shape, int batch);
void plan_conv_merged(ConvPlan& plan);
void pack_conv_merged(const ConvPlan& plan, const float* weight, float* packed);
void run_conv_merged(const ConvPlan& plan, int n, const float* from, const float* weight, float* to,
                     const Epilogue& epilogue);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
