#include "kernels/conv_merged.h"

#include "kernels/conv_taps.h"
#include "kernels/padded.h"
#include "kernels/tap_run.h"
#include "runtime/memory.h"
#include "runtime/pool.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr int few_channels = 16;
constexpr long band_floats = (192 << 10) / 4;

const ConvShape as_forward(const ConvPlan& plan) {
    return plan.pass == ConvPass::forward ? plan.shape : mirrored(plan.shape);
}

// Taps of the kernel's rows; every pointer is valid because the input holds the padding.
void make_rows(ConvPass pass, const ConvShape& s, TapConv& c) {
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

void set_input(TapConv& c, const int size[3], int channels) {
    for (int i = 0; i < 3; i++) c.in[i] = size[i];
    c.in_stride[2] = channels;
    c.in_stride[1] = c.in_stride[2] * size[2];
    c.in_stride[0] = c.in_stride[1] * size[1];
    c.in_image = c.in_stride[0] * size[0];
}

bool unpadded(const ConvShape& s) {
    for (int i = 0; i < 3; i++)
        if (s.pad_lo[i] != 0 || window_span(s, i, s.out[i]) > s.in[i]) return false;
    return true;
}

}  // namespace

bool merging_applies(ConvPass pass, const ConvShape& s, int batch) {
    if (s.groups != 1 || s.kernel[2] == 1 || s.dilation[2] != 1) return false;
    if ((pass == ConvPass::forward ? s.cin : s.cout) > few_channels) return false;
    if (pass == ConvPass::backward_data && s.stride[0] * s.stride[1] * s.stride[2] != 1) return false;
    TapConv c;  // where much is padding, skipping it saves more
    make_phase(pass, s, batch, 0, c);
    return image_tile_cost(c) > 0.8;
}

void plan_conv_merged(ConvPlan& plan) {
    TapConv c;
    make_rows(plan.pass, as_forward(plan), c);
    const Tile tile = choose_tile(c.columns, 2, false);
    plan.algorithm = ConvAlgorithm::merged;
    plan.tile_pixels = tile.pixels;
    plan.tile_vectors = tile.vectors;
    plan.packed_floats = panel_layout(c, tile.vectors).group_floats();
    plan.scratch_floats = 0;
}

void pack_conv_merged(const ConvPlan& plan, const float* weight, float* packed) {
    TapConv c;
    make_rows(plan.pass, as_forward(plan), c);
    pack_panels(plan.shape, plan.pass == ConvPass::backward_data, c, panel_layout(c, plan.tile_vectors), weight,
                packed);
}

void run_conv_merged(const ConvPlan& plan, int n, const float* from, const float* weight, float* to,
                     const Epilogue& epilogue) {
    const ConvShape s = as_forward(plan);
    TapConv whole;
    make_rows(plan.pass, s, whole);
    TapJob job{&whole,
               panel_layout(whole, plan.tile_vectors),
               find_tile(plan.tile_pixels, plan.tile_vectors),
               false,
               weight,
               nullptr,
               false,
               nullptr,
               &epilogue};
    if (unpadded(s)) {
        whole.images = n;
        set_input(whole, s.in, s.cin);
        run_taps(job, from, to);
        return;
    }
    const double macs = s.macs(n);
    const Bands bands = make_bands(s, s.cin, band_floats, ceil_div(piece_count(macs), n));
    const long image_floats = s.in_pixels() * s.cin;
    const auto body = [&](long piece) {
        TapConv c = whole;
        const int begin = static_cast<int>(piece % bands.count) * bands.positions;
        const int end = min_of(s.out[bands.axis], begin + bands.positions);
        int size[3] = {bands.size[0], bands.size[1], bands.size[2]};
        size[bands.axis] = window_span(s, bands.axis, end - begin);
        set_input(c, size, s.cin);
        c.positions[bands.axis] = end - begin;
        c.out_origin = begin * c.out_stride[bands.axis];
        float* copy = thread_scratch(bands.floats());
        copy_padded(s, bands, begin, end, s.cin, from + piece / bands.count * image_floats, copy);
        TapJob own = job;
        own.conv = &c;
        run_taps_here(own, copy, to + piece / bands.count * c.out_image);
    };
    const long pieces = static_cast<long>(n) * bands.count;
    const long joined = ceil_div(pieces, piece_count(macs));
    parallel(ceil_div(pieces, joined), [&](long group) {
        for (long piece = group * joined; piece < min_of(pieces, (group + 1) * joined); piece++) body(piece);
    });
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
