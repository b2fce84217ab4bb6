// Few input channels: a row of the kernel and the channels are one long run of a padded copy. The taps that remain are
// the kernel's rows, and the copies are made band by band.
#pragma once
#include "kernels/padded.h"
#include "kernels/tap_conv.h"
#include "runtime/memory.h"
#include "runtime/pool.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

// Backward data (of stride 1) is the forward of the mirrored shape.
static inline ConvShape merged_forward(const ConvPlan& plan) {
    return plan.pass == ConvPass::forward ? plan.shape : mirrored(plan.shape);
}

// Taps of the kernel's rows; every pointer is valid because the input holds the padding.
static inline void make_merged_rows(ConvPass pass, const ConvShape& s, TapConv& c) {
    c.images = c.groups = 1;
    c.checked = false;
    c.merged = s.kernel[2];
    c.depth = s.kernel[2] * s.cin;
    c.columns = s.cout;
    c.tap_count = 0;
    c.out_stride[2] = s.cout;
    c.out_stride[1] = c.out_stride[2] * s.out[2];
    c.out_stride[0] = c.out_stride[1] * s.out[1];
    c.out_image = c.out_stride[0] * s.out[0];
    c.out_origin = 0;
    for (int i = 0; i < 3; i++) {
        c.positions[i] = s.out[i];
        c.step[i] = s.stride[i];
    }
    const int rows = s.kernel[0] * s.kernel[1];
    for (int row = 0; row < rows; row++) {
        Tap& tap = c.taps[c.tap_count++];
        tap.offset[0] = row / s.kernel[1] * s.dilation[0];
        tap.offset[1] = row % s.kernel[1] * s.dilation[1];
        tap.offset[2] = 0;
        tap.weight = pass == ConvPass::forward ? row * s.kernel[2] : (rows - row) * s.kernel[2] - 1;
    }
}

static inline void set_merged_input(TapConv& c, const int size[3], int channels) {
    for (int i = 0; i < 3; i++) c.in[i] = size[i];
    c.in_stride[2] = channels;
    c.in_stride[1] = c.in_stride[2] * size[2];
    c.in_stride[0] = c.in_stride[1] * size[1];
    c.in_image = c.in_stride[0] * size[0];
}

static inline bool is_unpadded(const ConvShape& s) {
    for (int i = 0; i < 3; i++)
        if (s.pad_lo[i] != 0 || window_span(s, i, s.out[i]) > s.in[i]) return false;
    return true;
}

// For each image and band: copies what it meets, padded, into scratch, and calls body(c, copy, out), on the thread that
// copied: `c` are the taps of the band, `out` where the image begins in the output.
template <class S, class Body>
static inline void over_bands(const ConvShape& s, int n, const TapConv& whole, const S* from, const Body& body) {
    constexpr long band_elements = (192 << 10) / sizeof(S);
    constexpr long least_rows = 4;  // of a band: it copies more rows than it has, and its last tile is not full
    const double macs = s.macs(n);
    const int rows = s.out[0] > 1 ? s.out[0] : s.out[1] > 1 ? s.out[1] : s.out[2];  // along the axis of the bands
    const long wanted = min_of(ceil_div(piece_count(macs), n), max_of(1L, rows / least_rows));
    const Bands bands = make_bands(s, s.cin, band_elements, wanted);
    const long image_elements = s.in_pixels() * s.cin;
    const auto run = [&](long piece) {
        TapConv c;
        copy_taps(whole, c);
        const int begin = static_cast<int>(piece % bands.count) * bands.positions;
        const int end = min_of(s.out[bands.axis], begin + bands.positions);
        int size[3] = {bands.size[0], bands.size[1], bands.size[2]};
        size[bands.axis] = window_span(s, bands.axis, end - begin);
        set_merged_input(c, size, s.cin);
        c.positions[bands.axis] = end - begin;
        c.out_origin = begin * c.out_stride[bands.axis];
        S* copy = reinterpret_cast<S*>(thread_scratch(ceil_div(bands.floats() * sizeof(S), sizeof(float))));
        copy_padded(s, bands, begin, end, s.cin, from + piece / bands.count * image_elements, copy);
        body(c, copy, piece / bands.count * c.out_image);
    };
    const long pieces = static_cast<long>(n) * bands.count;
    const long joined = ceil_div(pieces, piece_count(macs));
    parallel(ceil_div(pieces, joined), [&](long group) {
        for (long piece = group * joined; piece < min_of(pieces, (group + 1) * joined); piece++) run(piece);
    });
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
