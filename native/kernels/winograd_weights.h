// Weights in the transformed domain: for each xi a matrix of input channels (depth) x output channels (columns), as the
// pass sees them: backward data has the two exchanged and the taps flipped.
#pragma once
#include "kernels/conv.h"
#include "kernels/vec.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

struct WeightSource {
    const ConvShape* shape;  // of the pass
    bool transposed;
    const float* weight;  // 3, 3, cin, cout of the forward pass
};

// out[xi * xi_stride + (k - depth_begin) * row + lane] for k in [depth_begin, depth_end) and VL columns from `column`;
// 0 beyond the last column. `outputs` is m: 2 or 4.
void transform_weights(int outputs, const WeightSource& source, long depth_begin, long depth_end, long column,
                       float* out, long row, long xi_stride);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
