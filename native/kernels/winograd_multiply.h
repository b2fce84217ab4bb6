// The matrix products between the transforms.
#pragma once
#include "kernels/vec.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

// out[r, column] (+)= sum over k < depth of in[r, k] * panel[k, column], for `rows` rows, a multiple of the tile's, and
// the vectors * VL columns of one panel.
struct ProductTile {
    int rows, vectors;
    void (*run)(const float* in, long in_row, long rows, long depth, const float* panel, float* out, long out_row,
                bool accumulate);
};

// The tile that computes least beyond `rows` x `columns`.
ProductTile choose_product_tile(long rows, int columns);
ProductTile find_product_tile(int rows, int vectors);

// out[i, column] (+)= sum over t < tiles of v[t * VL + i] * d[j * d_vector + t * VL + lane], column = j * VL + lane:
// the product of `rows` input channels with `vectors` vectors of output channels.
struct WeightProduct {
    int rows, vectors;
    void (*run)(const float* v, const float* d, long d_vector, long tiles, float* out, long out_row, bool accumulate);
};

WeightProduct choose_weight_product(int columns);
WeightProduct find_weight_product(int vectors);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
