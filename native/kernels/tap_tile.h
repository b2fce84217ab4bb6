// The register tile of forward and backward data: `pixels` outputs x `vectors` vectors of columns stay in registers
// over all taps. There is one pointer per pixel and tap, so borders (a pointer to zeros), strides, dilation, ragged
// widths and tiles that cross rows or images cost nothing in the inner loop.
#pragma once
#include "kernels/vec.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

struct TileArgs {
    const float* const* in;  // [tap][pixel of the tile]
    long in_offset;          // floats added to every pointer
    int taps;
    long depth;
    const float* panel;    // weights: [panel tap][depth][vectors * VL]
    const int* panel_tap;  // of each tap
    float* const* out;     // [pixel]
    long column;           // first column
    int pixels, columns;   // valid ones
    bool accumulate;       // add to what is in `out`
    const float* bias;     // null, or what the sums begin with; indexed by column
    bool clamp;            // finish with clamp(y, low, high)
    float low, high;
};

constexpr int max_tile_pixels = 12;

struct Tile {
    int pixels, vectors;
    void (*run)(const TileArgs&);
};

// The tile for this many columns; `images`: pixels of a tile are images (sizes that divide usual batches).
Tile choose_tile(int columns, long positions, bool images);
Tile find_tile(int pixels, int vectors);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
