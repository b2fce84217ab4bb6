// An image as m x m tiles of outputs: the transforms between images and the a x a matrices of tiles x channels that are
// multiplied (a = m + 2), one matrix for each position xi in the transformed tile.
#pragma once
#include "kernels/bf16.h"
#include "kernels/conv.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

struct TileGrid {
    int in[2], out[2], pad[2];  // H, W
    int cin, cout;
    int across, per_image;  // tiles of a row, of an image
    long tiles;             // of all images

    TileGrid() = default;
    TileGrid(const ConvShape& shape, int outputs, int n);
};

// Where element (xi, tile, channel) of the matrices lies: data + xi * xi_stride + tile * tile_stride +
// channel / VL * vector_stride + channel % VL. Channels are filled up to whole vectors with zeros.
struct Matrices {
    float* data;
    long xi_stride, tile_stride, vector_stride;
};

// `outputs` is m: 2 or 4. Tiles first .. first + count of the grid become tiles 0 .. count of the matrices, or the
// reverse. S: what images are stored as, float or bf16.
template <class S>
void transform_inputs(int outputs, const TileGrid& grid, const S* x, long first, long count, const Matrices& to);
// Writes the `channels` output channels from `channel` on, which are the first ones of the matrices.
template <class S>
void transform_products(int outputs, const TileGrid& grid, const Matrices& from, long first, long count, int channel,
                        int channels, S* y, const Epilogue& epilogue);
template <class S>
void transform_gradients(int outputs, const TileGrid& grid, const S* grad_output, long first, long count,
                         const Matrices& to);

// Asks for the pixels of these tiles in an activation of this extent (H, W), inputs or outputs. Between products, which
// wait for no memory, this takes what the transforms wait for out of their way: 5 % (64 channels) to 20 % (16).
template <class S>
void prefetch_pixels(int outputs, const TileGrid& grid, const int* extent, int channels, long first, long count,
                     const S* pixels);

// Floats from one matrix to the next: an odd number of cache lines, so that the equal elements of all matrices, written
// together, fall into different cache sets.
static FOVEA_INLINE long spread(long floats) { return (ceil_div(floats, 16) | 1) * 16; }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
