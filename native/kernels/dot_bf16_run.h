// Runs a TapConv on bf16 inputs: cuts it into pieces, walks the tiles of each. The whole depth of an output is summed
// at once, so that it is rounded once.
#pragma once
#include "kernels/dot_bf16_pack.h"
#include "kernels/dot_bf16_tile.h"
#include "kernels/tap_conv.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

struct PairJob {
    const TapConv* conv;
    PairLayout layout;
    PairTile tile;
    bool images;         // walk with one position of several images as a tile
    const Pair* packed;  // by pack_pairs
    bool float_output;
    const Epilogue* epilogue;
};

// All groups, blocks and positions, threaded.
void run_pairs(const PairJob& job, const bf16* from, void* to);
// The same on the calling thread, for one group.
void run_pairs_here(const PairJob& job, const bf16* from, void* to);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
