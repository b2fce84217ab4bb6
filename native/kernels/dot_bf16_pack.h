// Weights for PairTile: rounded to bf16, per group and block of columns [tap][pair of channels][width].
#pragma once
#include "kernels/dot_bf16.h"
#include "kernels/tap_conv.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

struct PairLayout {
    int width;         // columns of a block
    int blocks;        // per group
    long tap_pairs;    // words of one tap
    long block_pairs;  // words of all taps
    long pairs(const TapConv& c) const { return c.groups * blocks * block_pairs; }
};

PairLayout pair_layout(const TapConv& c, int tile_vectors);

// transposed: backward data, whose depth are the weights' outputs. Weights are conv.h's, taps may be merged.
void pack_pairs(const ConvShape& shape, bool transposed, const TapConv& c, const PairLayout& layout,
                const float* weight, Pair* packed);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
