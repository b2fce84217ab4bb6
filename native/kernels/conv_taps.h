// Forward and backward data by register tiles, with pixel or image tiles.
#pragma once
#include "kernels/tap_conv.h"
#include "kernels/tap_run.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

// Work of tiles of images, which skip the padding, relative to tiles of pixels; above 1 where they are of no use.
double image_tile_cost(const TapConv& c);

// Completes a plan whose shape, pass and batch are set.
void plan_conv_taps(ConvPlan& plan);
// Such a plan for weights that stay: all of them are packed ahead.
void pack_conv_taps_ahead(ConvPlan& plan);
void pack_conv_taps(const ConvPlan& plan, const float* weight, float* packed);
void run_conv_taps(const ConvPlan& plan, int n, const float* from, const float* weight, float* to,
                   const Epilogue& epilogue);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
