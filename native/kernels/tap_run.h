// Runs a TapConv: cuts it into pieces, walks the tiles of each.
#pragma once
#include "kernels/tap_conv.h"
#include "kernels/tap_pack.h"
#include "kernels/tap_tile.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

struct TapJob {
    const TapConv* conv;
    PanelLayout layout;
    Tile tile;
    bool images;          // walk with one position of several images as a tile
    const float* packed;  // null: weights are packed by the piece that uses them, from:
    const ConvShape* shape;
    bool transposed;
    const float* weight;
    const Epilogue* epilogue;
    const float* ahead =
        nullptr;  // pointwise: inputs to fetch meanwhile, which lie as those that are read; null: next tile
};

// All groups, blocks and positions, threaded.
void run_taps(const TapJob& job, const float* from, float* to);
// The same on the calling thread, group by group, for all blocks: what a piece does with a copy of its own.
void run_taps_here(const TapJob& job, const float* from, float* to);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
