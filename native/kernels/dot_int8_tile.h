// The register tile of int8 convolution: tap_tile.h's, where one broadcast is four neighbouring input channels.
#pragma once
#include "kernels/dot_int8_vec.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

// What becomes of a finished sum: y = (sum + bias) * factor + (residual - residual_zero) * residual_factor, clamped to
// low .. high; stored as it is, or rounded to a byte with the zero point added.
struct Int8Epilogue {
    const int32_t* bias;  // per output channel; what the sums begin with
    const float* factor;  // per output channel
    bool residual;
    long residual_distance;  // bytes from an output to the byte that is added to it
    int residual_zero;
    float residual_factor;
    float low, high;
    int zero;
    bool float_output;
};

struct Int8TileArgs {
    const float* const* in;  // [tap][pixel of the tile], each to words of four channels
    long in_offset;          // words added to every pointer
    int taps;
    long depth;            // words of each tap
    const int8_t* panel;   // weights: [panel tap][depth][columns of the tile][4]
    const int* panel_tap;  // of each tap
    float* const* out;     // [pixel]: bytes or floats
    long column;           // first column
    int pixels, columns;   // valid ones
    const Int8Epilogue* epilogue;
};

using Int8Tile = void (*)(const Int8TileArgs&);

// Columns are cut into blocks of `vectors` vectors, the last of which may be narrower: no column is padded further than
// to a vector.
struct Int8Blocks {
    int total;    // vectors
    int vectors;  // of a block
    int pixels;   // of its tile
    int count() const { return (total + vectors - 1) / vectors; }
    int width(int block) const { return min_of(vectors, total - block * vectors); }
};
Int8Blocks int8_blocks(int columns);
// Pixels of a tile: few positions, or tiles of images, go with other sizes than the usual.
int int8_tile_pixels(const Int8Blocks& blocks, long positions, bool images);
Int8Tile int8_tile(int pixels, int vectors);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
