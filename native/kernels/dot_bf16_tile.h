// The register tile of forward and backward data in bf16: tap_tile.h's, where one step of the depth is a pair of
// neighbouring channels. An odd channel at the end is paired with 0, not with what lies behind it in memory.
#pragma once
#include "kernels/dot_bf16.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

struct PairTileArgs {
    const bf16* const* in;  // [tap][pixel of the tile]
    long in_offset;         // elements added to every pointer
    int taps;
    long depth;                   // channels
    const Pair* panel;            // weights: [panel tap][pair of channels][vectors * VL]
    const int* panel_tap;         // of each tap
    void* const* out;             // [pixel], bf16 or float; interleaved: [pair of pixels], each of pairs
    const bf16* const* residual;  // null, or [pixel]: what is added behind the clamp
    long column;                  // first column
    int pixels, columns;          // valid ones
    const float* bias;            // null, or what the sums begin with; indexed by column
    bool clamp;                   // finish with clamp(y, low, high)
    float low, high;
};

constexpr int max_pair_tile_pixels = 8;

struct PairTile {
    int pixels, vectors;
    void (*run)(const PairTileArgs&);        // writes bf16
    void (*run_float)(const PairTileArgs&);  // writes float
    // Writes pairs: one channel of two neighbouring pixels. Whole vectors are written, and 0 for a missing last pixel.
    void (*run_interleaved)(const PairTileArgs&);
};

// The tile for this many columns at `positions` pixels that read `depth` elements each.
PairTile choose_pair_tile(int columns, long positions, long depth);
PairTile find_pair_tile(int pixels, int vectors);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
