// Rows of a depthwise 3x3 convolution: the case that networks are made of. A block of up to eight neighbouring outputs
// of a row keeps its sums in registers, every input vector is loaded once for all of them, and the columns left and
// right of the image are masked away.
#pragma once
#include "kernels/bf16.h"
#include "kernels/conv.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

// Whether the last two axes are a 3x3 with stride 1 or 2 and at most one column of padding on each side, and the first
// axis is trivial.
bool depthwise3_applies(const ConvShape& shape, ConvPass pass);

// Activations are stored as S, float or bf16; weights, sums and products are float32.
// Up to three rows of inputs that one row of outputs meets, and which row of the kernel each meets.
template <class S>
struct DepthwiseRowsOf {
    int count = 0;
    const S* in[3];  // first pixel
    int kernel[3];
};

template <class S>
struct DepthwiseRowOf {
    DepthwiseRowsOf<S> rows;
    int channels, stride;
    int in_width, out_width, pad;
    const float* weight;             // of the upper left corner, [channels]
    long weight_row, weight_column;  // floats to the next one; negative: mirrored
    const Epilogue* epilogue;
    S* out;         // the row of outputs
    const S* grad;  // backward weight: the row of grad_output
    float* sum;     // backward weight: grad_weight
};
using DepthwiseRows = DepthwiseRowsOf<float>;
using DepthwiseRow = DepthwiseRowOf<float>;

// out[x] = clamp(bias + sum over rows and columns)
template <class S>
void depthwise3_row(const DepthwiseRowOf<S>& row);
// Backward data at stride 2: in = rows of grad_output (in_width pixels), out = one row of grad_input (out_width
// pixels).
template <class S>
void depthwise3_spread_row(const DepthwiseRowOf<S>& row);
// Adds to `sum` what one row of grad_output contributes.
template <class S>
void depthwise3_weight_row(const DepthwiseRowOf<S>& row);

// The rows of inputs that row y of outputs meets; `row(i)`: address of input row i.
template <class S, class RowAt>
static FOVEA_INLINE void find_rows(int y, int stride, int pad, int height, const RowAt& row, DepthwiseRowsOf<S>& rows) {
    rows.count = 0;
    for (int k = 0; k < 3; k++) {
        const int at = y * stride + k - pad;
        if (at < 0 || at >= height) continue;
        rows.in[rows.count] = row(at);
        rows.kernel[rows.count++] = k;
    }
}

// The rows of grad_output that row q of grad_input meets at stride 2 with one row of padding: q = 2 p + k - 1.
template <class S, class RowAt>
static FOVEA_INLINE void find_spread_rows(int q, int height, const RowAt& row, DepthwiseRowsOf<S>& rows) {
    rows.count = 0;
    for (int k = (q + 1) % 2; k < 3; k += 2) {
        const int at = (q + 1 - k) / 2;
        if (at >= height) continue;
        rows.in[rows.count] = row(at);
        rows.kernel[rows.count++] = k;
    }
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
