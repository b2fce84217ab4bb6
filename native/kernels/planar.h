// Convolution with few output channels: lanes are neighbouring pixels of a row, not channels, so that six channels do
// not leave ten lanes of sixteen empty. The input is copied to planes (one per channel, with its padding); a register
// tile is `channels` x `rows` x `vectors` vectors of sums; weights are broadcast as they lie.
#pragma once
#include "kernels/conv.h"
#include "kernels/interleave.h"
#include "kernels/padded.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

constexpr int max_planar_depth = 256;                  // taps x input channels
constexpr int max_planar_channels = most_interleaved;  // output channels
constexpr int planar_vectors = 2, planar_rows = 2;     // of the largest tile
constexpr long planar_width = planar_vectors * VL;

// One image, or a band of it, as planes: where the taps lie in them.
struct Planes {
    Bands bands;
    long pitch, plane;  // floats between rows, between channels
    long floats;        // of the whole copy, with what tiles read behind the last pixel
    int depth;
    int offset[max_planar_depth];  // of each row of the weights (taps, then channels)
};

bool planar_fits(const ConvShape& shape);
// min_bands: how many bands an image should have at least. unit: output positions of a band are a multiple of it.
Planes make_planes(const ConvShape& shape, long min_bands, int unit);
// Copies what output positions begin .. end along bands.axis meet. border: write the zeros of the padding as well,
// which stay where they are when the next copy is of the same positions.
void copy_planes(const ConvShape& shape, const Planes& planes, int begin, int end, const float* image, bool border,
                 float* out);

// sums[channel][row][planar_width] = clamp(bias + convolution) for all output channels of `rows` (1 or 2) rows of the
// output that are `row_step` floats apart in the planes, and `pixels` <= planar_width pixels from `x` on.
struct PlanarTile {
    const ConvShape* shape;
    const Planes* planes;
    const float* weight;
    const Epilogue* epilogue;
    long row_step;
};
void run_planar_tile(const PlanarTile& tile, const float* x, int rows, long pixels, float* sums);
// pooled[channel][VL]: the largest of each 2x2 of two rows of outputs, clamped, for `pixels` <= VL of them; winners
// [channel][VL]: the number (0 to 3, an int) of the one that is it;
// null: not wanted.
void run_pooled_tile(const PlanarTile& tile, const float* x, long pixels, float* pooled, float* winners);

// The whole convolution (algorithm `planar`).
bool planar_pays(ConvPass pass, const ConvShape& shape);
void plan_conv_planar(ConvPlan& plan);
void run_conv_planar(const ConvPlan& plan, int n, const float* from, const float* weight, float* to,
                     const Epilogue& epilogue);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
