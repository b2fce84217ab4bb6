// The register tile of backward weight in bf16. The sums run over pixels, so a pair is the same element of two pixels:
// both operands are copied with two images (or halves of a row of pixels) interleaved.
//   out[row, column] (+)= sum over pairs of pixels of x[pixel, row] . dy[pixel, column]
#pragma once
#include "kernels/dot_bf16.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

struct PairWeightArgs {
    const Pair *x, *dy;              // of the first pixel
    int count[4];                    // pairs of images, planes, rows, columns of pixels
    long x_stride[4], dy_stride[4];  // pairs between neighbours of each
    float* out;
    long out_row;     // floats between rows of out
    int columns;      // valid ones; dy holds 0 in the others
    bool accumulate;  // add to what is in out
};

using PairWeightTile = void (*)(const PairWeightArgs&);

// Vectors of a tile for this many columns, and most rows beside them.
int pair_weight_vectors(int columns);
int pair_weight_rows(int vectors);
// Rows of x that are copied side by side: two tiles of as many rows as fit beside any number of vectors.
constexpr int pair_weight_panel_rows = VECTOR_REGISTERS == 32 ? 16 : 8;
PairWeightTile find_pair_weight_tile(int rows, int vectors);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
