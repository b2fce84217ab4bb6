// Convolution in three passes, float32. With x the input, w the weight, b the bias, y the output, per axis i:
//   forward          y[n, p, o]  = b[o] + sum over taps m, channels c of x[n, p * stride + m * dilation - pad_lo, c]
//   w[m, c, o] backward data    dx[n, q, c] = sum of dy[n, p, o] w[m, c, o] over all p, m with p * stride + m *
//   dilation - pad_lo = q backward weight  dw[m, c, o] = sum over n, p of x[n, p * stride + m * dilation - pad_lo, c]
//   dy[n, p, o];  db[o] = sum of dy
// A transposed convolution is `backward_data` run forward, and the reverse.
#pragma once
#include <cstddef>

#include "kernels/shapes.h"
#include "kernels/storage.h"

namespace fovea {

enum class ConvPass : int { forward, backward_data, backward_weight };

// naive: the definition, right for everything.  tiles: tiles of neighbouring pixels.  batch_tiles: one position of
// several images is a tile.  merged: few channels, kernel rows merged with the channels of a padded copy.  depthwise:
// groups = cin = cout. panels (backward weight): operands packed, output channels split. winograd2, winograd4: F(2x2,
// 3x3) and F(4x4, 3x3), see winograd.h. converted (bf16): the float32 kernels on converted copies. planar: few output
// channels, lanes are pixels.
enum class ConvAlgorithm : int {
    naive,
    tiles,
    batch_tiles,
    merged,
    depthwise,
    panels,
    winograd2,
    winograd4,
    converted,
    planar
};

// What is done to each finished tile of outputs while it is in cache: y = clamp(y + bias, low, high).
struct Epilogue {
    const float* bias = nullptr;  // cout values, or none
    bool clamp = false;           // (0, infinity) is ReLU, (0, 6) is ReLU6
    float low = 0, high = 0;
};

// One pass of one layer, decided once from the shape and the capacity alone, so that the bits depend on nothing else.
struct ConvPlan {
    ConvShape shape;
    ConvPass pass;
    int batch;  // capacity: run() takes any n up to it
    ConvAlgorithm algorithm;
    int tile_pixels, tile_vectors;          // of the register tile
    size_t packed_floats;                   // of packed weights; 0: run() reads the weights as they are
    size_t scratch_floats;                  // of shared scratch that run() needs
    Precision precision = Precision::fp32;  // of activations; bf16: the plan belongs to dot.h's kernels
    bool float_output = false;              // bf16: outputs are float32
};

struct ConvKernels {
    ConvPlan (*plan)(ConvPass pass, const ConvShape& shape, int batch);
    ConvPlan (*plan_naive)(ConvPass pass, const ConvShape& shape, int batch);
    // Tests and benchmarks: by Winograd with 2x2 or 4x4 outputs where it applies, or never by it (0).
    ConvPlan (*plan_winograd)(ConvPass pass, const ConvShape& shape, int batch, int outputs);
    // The same plan for weights that stay as they are for many runs: worth packing once whatever the number of rows.
    void (*pack_ahead)(ConvPlan& plan);
    // Fills plan.packed_floats floats; renewed whenever the weights change.
    void (*pack)(const ConvPlan& plan, const float* weight, float* packed);
    // forward: from = x, to = y.  backward data: from = grad_output, to = grad_input.
    // weight: what pack() made, or the weights themselves where packed_floats is 0.
    void (*run)(const ConvPlan& plan, int n, const float* from, const float* weight, float* to, float* scratch,
                const Epilogue& epilogue);
    // grad_bias may be null.
    void (*run_backward_weight)(const ConvPlan& plan, int n, const float* input, const float* grad_output,
                                float* grad_weight, float* grad_bias, float* scratch);
};

}  // namespace fovea
