// Rows of a depthwise 3x3 convolution in bf16, on pairs of neighbouring pixels: two of the three products of a row are
// one instruction, and nothing is converted. For rows that are made where they are used, whoever makes them.
#pragma once
#include "kernels/conv.h"
#include "kernels/dot_bf16.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

// Words of the packed weights and biases of `channels` channels.
static FOVEA_INLINE long depthwise3_pairs(long channels) { return round_up(channels, VL) * 13; }
// weight: [3][3][channels]; bias may be null. Per vector of channels: the bias, then for each row of the kernel
// (0, w0), (w1, w2), (w0, w1), (w2, 0).
void pack_depthwise3(const float* weight, const float* bias, int channels, Pair* packed);

// One row of outputs, or with stride 1 two. Channels are whole vectors; padding is one pixel on all sides. Pairs are
// pixels 2 i and 2 i + 1; those at -1 and behind the last one hold zeros, and so does the second half of the last one
// where the width is odd.
struct PairDepthwise {
    const Pair* in[4];  // pair 0 of the rows that the outputs meet, three or for two rows of outputs four; none is null
    int channels, stride, out_width;
    const Pair* packed;
    bool clamp;
    float low, high;
    bf16* out[2];  // the second one: null, or the row below
};

void depthwise3_pairs_row(const PairDepthwise& row);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
