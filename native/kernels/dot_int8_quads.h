// Sixteen channels in and out, stride 1: a vector holds four neighbouring pixels. One of their words, repeated within
// each quarter of the vector, meets four output channels, repeated over the quarters: per product this takes half the
// instructions of a broadcast for every pixel, and four finished pixels are one store.
#pragma once
#include "kernels/dot_int8_tile.h"
#include "kernels/tap_conv.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

// Words that are read behind the last pixel of the input.
constexpr long quad_slack_words = 64;

// c: rows of taps joined, as for a padded copy. Never without vectors of 64 bytes.
bool quads_apply(const TapConv& c, bool float_output);
// One image. in: the padded copy; packed: as int8_pack makes it.
void run_quads(const TapConv& c, const int8_t* packed, const Int8Epilogue& epilogue, const float* in, float* out);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
