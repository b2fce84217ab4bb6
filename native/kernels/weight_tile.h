// The register tile of backward weight: `rows` input channels x `vectors` vectors of output channels of one tap (or of
// `taps` neighbouring ones) stay in registers while pixels pass:
//   out[tap, row, column] (+)= sum over pixels of x[pixel + tap, row] * dy[pixel, column]
// In N,*spatial,C both operands are read as they lie: broadcasts are neighbouring input channels, vectors output
// channels.
#pragma once
#include "kernels/vec.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

struct WeightTileArgs {
    const float *x, *dy;             // of the first pixel
    int count[4];                    // images, planes, rows, columns of pixels
    long x_stride[4], dy_stride[4];  // floats between neighbours of each
    long x_tap, out_tap;             // floats between neighbouring taps
    float* out;
    long out_row;     // floats between rows of out
    int columns;      // valid ones
    bool accumulate;  // add to what is in out
    // Memory that is used next, fetched while this is computed, some bytes with each pixel; null: nothing.
    const char* next[2] = {nullptr, nullptr};
    long next_step = 0;
};

using WeightTile = void (*)(const WeightTileArgs&);

// Most rows that fit beside `vectors` vectors.
int weight_tile_rows(int vectors);
// Vectors of a tile for this many columns.
int weight_tile_vectors(int columns);
WeightTile find_weight_tile(int rows, int vectors, bool ragged);
// A tile of one vector for several taps at once, for few channels; null where there is none.
WeightTile find_tap_weight_tile(int taps, int rows, bool ragged);

// What to fetch meanwhile: memory that is used next, so many values of both.
template <class S>
struct Ahead {
    const S* next[2];
    long count;
};

// out[row, column] += sum over pixels of x[pixel, row] * dy[pixel, column]: the weight's gradient of a pointwise
// convolution, from a run of pixels.
void add_pointwise_products(const float* x, int cin, const float* dy, int cout, long pixels, float* out,
                            const Ahead<float>& ahead);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
