// Convolution and dense layers on bytes: y = (sum of (x - zero) w + bias) * factor, and what Int8Epilogue adds.
// The zero point's part of the sum, zero * sum of w, is in the bias that the caller gives; so padding reads the zero
// point, and where that is 0, tiles of images skip it.
#include "kernels/dot_int8.h"
#include "kernels/dot_int8_quads.h"
#include "kernels/dot_int8_tile.h"
#include "kernels/op_tools.h"
#include "kernels/padded.h"
#include "kernels/tap_walk.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// Packed weights that one core keeps in its second-level cache while all pixels pass.
constexpr long hot_bytes = 512 << 10;

ConvShape shape_of(const long* ints) {
    ConvShape s{};
    s.groups = static_cast<int>(ints[0]);
    s.cin = static_cast<int>(ints[1]);
    s.cout = static_cast<int>(ints[2]);
    int (*const fields[])[3] = {&s.in, &s.out, &s.kernel, &s.stride, &s.dilation, &s.pad_lo};
    for (int field = 0; field < 6; field++)
        for (int axis = 0; axis < 3; axis++) (*fields[field])[axis] = static_cast<int>(ints[3 + 3 * field + axis]);
    return s;
}

// The geometry in words: a pixel is a run of words of four channels, which the walk takes for floats.
void make_words(const ConvShape& shape, int n, bool float_output, TapConv& c) {
    ConvShape words = shape;
    words.cin = static_cast<int>(ceil_div(shape.cin, 4));
    if (!float_output) words.cout = static_cast<int>(ceil_div(shape.cout, 4));
    make_phase(ConvPass::forward, words, n, 0, c);
    c.columns = shape.group_cout();
}

struct Int8Job {
    const TapConv* conv;
    Int8Blocks blocks;
    int pixels;
    bool images;
    const int8_t* packed;
    const float* padding;
    const Int8Epilogue* epilogue;

    long block_bytes() const { return static_cast<long>(conv->tap_count) * conv->depth * 4 * blocks.vectors * VL; }
    long group_bytes() const { return static_cast<long>(conv->tap_count) * conv->depth * 4 * blocks.total * VL; }
    long tiles() const {
        return images ? conv->position_count() * ceil_div(conv->images, pixels)
                      : ceil_div(conv->images * conv->position_count(), pixels);
    }
};

struct Int8Range {
    int group, block_begin, block_end;
    long tile_begin, tile_end;
};

template <class Walk>
void walk_range(const Int8Job& job, const Int8Range& r, Walk& walk) {
    const TapConv& c = *job.conv;
    TileTable table;
    for (int t = 0; t < max_step_taps; t++) table.panel_tap[t] = t;
    const Step all{0, c.tap_count, 0, c.depth, 0};
    const Int8Tile usual = int8_tile(job.pixels, job.blocks.vectors),
                   last = int8_tile(job.pixels, job.blocks.width(job.blocks.count() - 1));
    Int8TileArgs args;
    args.in = table.in;
    args.in_offset = static_cast<long>(r.group) * c.depth;
    args.depth = c.depth;
    args.panel_tap = table.panel_tap;
    args.out = table.out;
    args.epilogue = job.epilogue;
    walk.seek(r.tile_begin);
    for (long tile = r.tile_begin; tile < r.tile_end; tile++, walk.next()) {
        walk.fill(all, table);
        args.taps = table.taps;
        args.pixels = table.pixels;
        for (int block = r.block_begin; block < r.block_end; block++) {
            const int column = block * job.blocks.vectors * VL;
            args.panel = job.packed + r.group * job.group_bytes() + block * job.block_bytes();
            args.column = static_cast<long>(r.group) * c.columns + column;
            args.columns = min_of(job.blocks.vectors * VL, c.columns - column);
            (block + 1 == job.blocks.count() ? last : usual)(args);
        }
    }
}

void run_job(const Int8Job& job, const float* from, float* to) {
    const TapConv& c = *job.conv;
    const int blocks = job.blocks.count();
    const long tiles = job.tiles();
    const long hot = max_of(1L, min_of<long>(blocks, hot_bytes / job.block_bytes()));
    long spans = ceil_div(blocks, hot);
    const long want = piece_count(c.macs());  // of words: four products each, which take as long as one of floats
    const long chunks = max_of(1L, min_of(tiles, ceil_div(want, spans * c.groups)));
    if (spans * c.groups * chunks < want)
        spans = max_of(spans, min_of<long>(blocks, ceil_div(want, c.groups * chunks)));
    parallel(c.groups * spans * chunks, [&](long piece) {
        const long chunk = piece % chunks, span = piece / chunks % spans;
        Int8Range r;
        r.group = static_cast<int>(piece / chunks / spans);
        r.block_begin = static_cast<int>(blocks * span / spans);
        r.block_end = static_cast<int>(blocks * (span + 1) / spans);
        r.tile_begin = tiles * chunk / chunks;
        r.tile_end = tiles * (chunk + 1) / chunks;
        if (job.images) {
            ImageWalk walk(c, job.pixels, from, to);
            walk_range(job, r, walk);
        } else {
            PixelWalk walk(c, job.pixels, from, to, job.padding);
            walk_range(job, r, walk);
        }
    });
}

// --- few channels: a row of the kernel and its channels are one run of memory in a padded copy

constexpr int few_words = 4;
constexpr long band_words = (96 << 10) / 4;

bool merges(const ConvShape& s) {
    return s.groups == 1 && s.kernel[2] > 1 && s.dilation[2] == 1 && ceil_div(s.cin, 4) <= few_words;
}

// The taps of `c` joined into rows; the input begins with the padding, so every pointer is valid. Packed weights lie as
// before: a row's taps follow each other.
void join_rows(const ConvShape& s, TapConv& c) {
    c.depth *= s.kernel[2];
    c.merged = s.kernel[2];
    c.checked = false;
    c.tap_count = s.kernel[0] * s.kernel[1];
    for (int row = 0; row < c.tap_count; row++)
        c.taps[row] = {{row / s.kernel[1] * s.dilation[0], row % s.kernel[1] * s.dilation[1], 0}, row * s.kernel[2]};
}

void run_joined(const ConvShape& shape, int n, Int8Job job, int fill, const float* from, float* to) {
    const TapConv& whole = *job.conv;
    const int words = static_cast<int>(ceil_div(shape.cin, 4));
    const Bands bands = make_bands(shape, words, band_words, ceil_div(piece_count(whole.macs()), n));
    const long pieces = static_cast<long>(n) * bands.count;
    const long joined = ceil_div(pieces, piece_count(whole.macs()));
    const auto run_band = [&](long piece) {
        TapConv c = whole;
        const int begin = static_cast<int>(piece % bands.count) * bands.positions;
        const int end = min_of(shape.out[bands.axis], begin + bands.positions);
        int size[3] = {bands.size[0], bands.size[1], bands.size[2]};
        size[bands.axis] = window_span(shape, bands.axis, end - begin);
        c.images = 1;
        for (int i = 0; i < 3; i++) c.in[i] = size[i];
        c.in_stride[1] = c.in_stride[2] * size[2];
        c.in_stride[0] = c.in_stride[1] * size[1];
        c.positions[bands.axis] = end - begin;
        c.out_origin = begin * c.out_stride[bands.axis];
        float* copy = thread_scratch(bands.floats() + quad_slack_words);
        copy_padded(shape, bands, begin, end, words, from + piece / bands.count * whole.in_image, copy, fill);
        if (quads_apply(c, job.epilogue->float_output))
            return run_quads(c, job.packed, *job.epilogue, copy, to + piece / bands.count * c.out_image);
        Int8Job own = job;
        own.conv = &c;
        PixelWalk walk(c, own.pixels, copy, to + piece / bands.count * c.out_image);
        walk_range(own, {0, 0, own.blocks.count(), 0, own.tiles()}, walk);
    };
    parallel(ceil_div(pieces, joined), [&](long group) {
        for (long piece = group * joined; piece < min_of(pieces, (group + 1) * joined); piece++) run_band(piece);
    });
}

}  // namespace

// packed <- weight (kernel, cin / groups, cout) as int8; ints: sizes as conv.h's ConvShape.
void int8_pack(const OpCall& call) {
    const ConvShape s = shape_of(call.ints);
    const Int8Blocks blocks = int8_blocks(s.group_cout());
    int8_t* packed = static_cast<int8_t*>(call.operand[0]);
    const int8_t* weight = static_cast<const int8_t*>(call.operand[1]);
    const long cg = s.group_cin(), words = ceil_div(cg, 4), taps = s.taps();
    const long group_bytes = taps * words * 4 * blocks.total * VL;
    parallel(static_cast<long>(s.groups) * blocks.count(), [&](long item) {
        const long group = item / blocks.count();
        const int block = static_cast<int>(item % blocks.count()), width = blocks.width(block) * VL;
        const int first = block * blocks.vectors * VL, columns = min_of(width, s.group_cout() - first);
        int8_t* out = packed + group * group_bytes + taps * words * 4 * first;
        const int8_t* in = weight + group * s.group_cout() + first;
        for (long tap = 0; tap < taps; tap++)
            for (long word = 0; word < words; word++, out += 4 * width) {
                std::memset(out, 0, 4 * static_cast<size_t>(width));
                for (long i = 0; i < min_of(4L, cg - 4 * word); i++) {
                    const int8_t* row = in + (tap * cg + 4 * word + i) * s.cout;
                    for (int column = 0; column < columns; column++) out[4 * column + i] = row[column];
                }
            }
    });
}

// out <- in, packed, bias (int32), factor, residual (or none), padding (cin bytes of the zero point; none: 0).
// ints: sizes, float_output, zero, residual_zero; reals: low, high, residual_factor.
void int8_conv(const OpCall& call) {
    const ConvShape s = shape_of(call.ints);
    const uint8_t* residual = static_cast<const uint8_t*>(call.operand[5]);
    const bool float_output = call.ints[21] != 0;
    const Int8Epilogue epilogue{static_cast<const int32_t*>(call.operand[3]),
                                in(call, 4),
                                residual != nullptr,
                                residual ? residual - static_cast<const uint8_t*>(call.operand[0]) : 0,
                                static_cast<int>(call.ints[23]),
                                call.reals[2],
                                call.reals[0],
                                call.reals[1],
                                static_cast<int>(call.ints[22]),
                                float_output};
    TapConv c;
    make_words(s, static_cast<int>(call.n), float_output, c);
    const float* padding = call.operand[6] ? in(call, 6) : zeros;
    Int8Job job{&c, int8_blocks(c.columns), 0, false, static_cast<const int8_t*>(call.operand[2]), padding, &epilogue};
    if (merges(s)) {
        const bool padded = c.checked;
        join_rows(s, c);
        job.pixels = int8_tile_pixels(job.blocks, c.position_count(), false);
        job.padding = zeros;  // read for pixels that a last tile lacks: a row of taps, more than `padding` has
        if (padded)
            return run_joined(s, c.images, job, *static_cast<const uint8_t*>(static_cast<const void*>(padding)),
                              in(call, 1), out(call, 0));
        return run_job(job, in(call, 1), out(call, 0));
    }
    if (c.checked && padding == zeros && c.positions[2] <= 64) {
        const int pixels = int8_tile_pixels(job.blocks, 2, true);
        job.images = valid_share(c) * static_cast<double>(round_up(c.images, pixels)) / c.images < 0.94;
    }
    job.pixels = int8_tile_pixels(job.blocks, c.images * c.position_count(), job.images);
    run_job(job, in(call, 1), out(call, 0));
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
