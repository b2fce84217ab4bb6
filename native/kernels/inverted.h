// Inverted residual blocks in bands of rows: what the forms for float32 and bf16 share.
#pragma once
#include "kernels/conv.h"
#include "kernels/op.h"
#include "kernels/vec.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

// As the lowering gives it (rules/inverted.py).
struct InvertedBlock {
    int height, width, cin, hidden, out_height, out_width, cout, stride, pad, expands, splits;

    explicit InvertedBlock(const long* i)
        : height(static_cast<int>(i[0])),
          width(static_cast<int>(i[1])),
          cin(static_cast<int>(i[2])),
          hidden(static_cast<int>(i[3])),
          out_height(static_cast<int>(i[4])),
          out_width(static_cast<int>(i[5])),
          cout(static_cast<int>(i[6])),
          stride(static_cast<int>(i[7])),
          pad(static_cast<int>(i[8])),
          expands(static_cast<int>(i[9])),
          splits(static_cast<int>(i[10])) {}

    long in_row() const { return static_cast<long>(width) * cin; }
    long out_row() const { return static_cast<long>(out_width) * cout; }
    // Rows of inputs that `rows` rows of outputs meet.
    int input_rows(int rows) const { return (rows - 1) * stride + 3; }
    // The rows of outputs of a piece begin here; a piece is a part of one image.
    int first_row(long split) const { return static_cast<int>(out_height * split / splits); }
    // Rows of outputs of one band, bands of about equal height: `wide` and `deep` are what a row takes before and
    // behind the depthwise convolution, `room` what there is.
    int band_rows(int rows, long wide, long deep, long room) const {
        int fitting = 1;
        while (fitting < rows && input_rows(fitting + 1) * wide + (fitting + 1) * deep <= room) fitting++;
        return static_cast<int>(ceil_div(rows, ceil_div(rows, fitting)));
    }
    // body(at, until, low, high): the bands of outputs [begin, end) and the rows of inputs that each meets.
    template <class Body>
    FOVEA_INLINE void over_bands(int begin, int end, int band, const Body& body) const {
        for (int at = begin; at < end; at += band) {
            const int until = min_of(end, at + band);
            body(at, until, max_of(0, at * stride - pad), min_of(height, (until - 1) * stride - pad + 3));
        }
    }
};

// What a band's intermediate values may take of a second-level cache, which holds the weights as well.
constexpr long inverted_band_bytes = 384 << 10;

// The clamp of one of the three convolutions; infinite limits: none.
static FOVEA_INLINE Epilogue inverted_epilogue(const OpCall& call, const float* bias, int clamp) {
    const float low = call.reals[2 * clamp], high = call.reals[2 * clamp + 1];
    return {bias, low > -__builtin_inff() || high < __builtin_inff(), low, high};
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
