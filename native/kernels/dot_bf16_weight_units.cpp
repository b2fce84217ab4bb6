#include "kernels/dot_bf16_weight_units.h"

#include "kernels/dot_bf16_interleave.h"
#include "kernels/padded.h"
#include "kernels/tap_conv.h"
#include "runtime/pool.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr long unit_pairs = (320 << 10) / 4;  // of both copies: they stay in the second-level cache
constexpr int few_channels = 16, few_rows = 96;
constexpr long run_pixels = 16;  // copied at once, so that a line of memory is fetched once for all panels

bool is_pointwise(const ConvShape& s) {
    for (int i = 0; i < 3; i++)
        if (s.kernel[i] != 1 || s.stride[i] != 1 || s.pad_lo[i] != 0 || s.in[i] != s.out[i]) return false;
    return true;
}

// All pixels of a 1x1 convolution are alike: they become two images of one row.
void halve_pixels(PairCut& c, int n) {
    const long pixels = n * c.s.in_pixels(), half = ceil_div(pixels, 2);
    c.images = 2;
    for (int i = 0; i < 3; i++) c.s.in[i] = c.s.out[i] = i == 2 ? static_cast<int>(half) : 1;
    c.missing = 2 * half - pixels;
    c.x_image = half;
}

void take_input(PairCut& c, const ConvShape& shape, int n) {
    c.s = shape;
    c.images = n;
    c.missing = 0;
    c.x_image = shape.in_pixels();
    const long step[3] = {static_cast<long>(shape.in[1]) * shape.in[2], shape.in[2], 1};
    for (int i = 0; i < 3; i++) {
        const bool skips = shape.kernel[i] == 1 && shape.pad_lo[i] == 0;
        c.x_step[i] = step[i] * (skips ? shape.stride[i] : 1);
        if (!skips) continue;
        c.s.in[i] = static_cast<int>(ceil_div(shape.in[i], shape.stride[i]));
        c.s.stride[i] = 1;
    }
    if (is_pointwise(shape)) halve_pixels(c, n);
}

Extent input_extent(const ConvShape& s, int axis, int begin, int end, bool padded) {
    const int from = begin * s.stride[axis] - s.pad_lo[axis], to = from + window_span(s, axis, end - begin);
    return padded ? Extent{from, to} : Extent{max_of(0, from), max_of(max_of(0, from), min_of(s.in[axis], to))};
}

void cut_units(PairCut& c) {
    const ConvShape& s = c.s;
    c.axis = s.out[0] > 1 ? 0 : s.out[1] > 1 ? 1 : 2;
    const long slice_in = s.in_pixels() / s.in[c.axis] * c.x_pairs();
    const long slice_out = s.out_pixels() / s.out[c.axis] * c.dy_pairs();
    const long extent = s.out[c.axis], per_position = slice_in * s.stride[c.axis] + slice_out;
    const long fitting = max_of(1L, min_of(extent, unit_pairs / per_position));
    c.bands = static_cast<int>(ceil_div(extent, fitting));
    c.band = static_cast<int>(ceil_div(extent, c.bands));
    c.bands = static_cast<int>(ceil_div(extent, c.band));
    const long all = ceil_div(c.images, 2);
    c.pairs = c.bands > 1 ? 1 : max_of(1L, min_of(all, unit_pairs / (per_position * extent)));
    c.units = ceil_div(all, c.pairs) * c.bands;
}

// The first of `count` pixels of one row in both images of a pair.
struct Run {
    const bf16 *a, *b;
    long second;  // pixels of b
};

Run get_run(const PairCut& c, const bf16* data, long image, long image_pixels, long at, long count, int channels) {
    Run r;
    r.a = data + (image * image_pixels + at) * channels;
    r.second = image + 1 < c.images ? max_of(0L, min_of(count, image_pixels - c.missing - at)) : 0;
    r.b = r.second > 0 ? r.a + image_pixels * channels : r.a;
    return r;
}

// Copies row (z, y) of x, of the columns that the unit has, to pixel `to` of the copies.
void copy_x_row(const PairCut& c, const PairUnit& u, const PairPart& part, const bf16* input, long image, int z, int y,
                long to) {
    const ConvShape& s = c.s;
    const int width = u.size(2);
    const bool inside = z >= 0 && z < s.in[0] && y >= 0 && y < s.in[1];
    const int left = max_of(0, -u.in[2].begin), right = max_of(left, min_of(width, s.in[2] - u.in[2].begin));
    if (c.merged && (!inside || left > 0 || right < width))
        __builtin_memset(u.x + to * s.cin, 0, sizeof(Pair) * static_cast<size_t>(width) * s.cin);
    if (!inside || right == left) return;
    const long at = z * c.x_step[0] + y * c.x_step[1] + (u.in[2].begin + left) * c.x_step[2], count = right - left;
    const Run r = get_run(c, input, image, c.x_image, at, count, s.cin);
    if (c.merged)  // channels of neighbouring pixels follow each other on both sides
        return interleave_run(r.a, r.b, r.second > 0, count * s.cin, u.x + (to + left) * s.cin);
    const long pixel = s.cin * c.x_step[2];
    for (long first = 0; first < count; first += run_pixels)
        for (int group = part.group_begin; group < part.group_end; group++)
            for (int panel = part.panel_begin; panel < part.panel_end; panel++) {
                const int row = panel * panel_rows;
                const long from = first * pixel + group * c.rows + row;
                interleave_pixels(r.a + from, r.b + from, pixel, min_of(run_pixels, count - first), r.second - first,
                                  min_of(panel_rows, c.rows - row), panel_rows,
                                  u.x + (u.in_pixels * (group * c.panels() + panel) + to + first) * panel_rows);
            }
}

void copy_dy_row(const PairCut& c, const PairUnit& u, const PairPart& part, const bf16* grad_output, long image,
                 long at, long count, long to) {
    const ConvShape& s = c.s;
    const Run r = get_run(c, grad_output, image, s.out_pixels(), at, count, s.cout);
    for (long first = 0; first < count; first += run_pixels)
        for (int group = part.group_begin; group < part.group_end; group++)
            for (int block = part.block_begin; block < part.block_end; block++) {
                const long from = first * s.cout + group * s.group_cout() + block * c.width;
                interleave_pixels(r.a + from, r.b + from, s.cout, min_of(run_pixels, count - first), r.second - first,
                                  min_of(c.width, s.group_cout() - block * c.width), c.width,
                                  u.dy + (u.out_pixels * (group * c.blocks + block) + to + first) * c.width);
            }
}

}  // namespace

PairCut make_cut(const ConvPlan& plan, int n) {
    PairCut c;
    take_input(c, plan.shape, n);
    const ConvShape& s = c.s;
    c.merged = s.groups == 1 && s.kernel[2] > 1 && s.dilation[2] == 1 && s.cin < few_channels &&
               s.cin * s.kernel[2] <= few_rows;
    c.taps = c.merged ? s.kernel[0] * s.kernel[1] : s.taps();
    c.rows = c.merged ? s.kernel[2] * s.cin : s.group_cin();
    c.vectors = plan.tile_vectors;
    c.width = c.vectors * VL;
    c.row_tiles = static_cast<int>(ceil_div(c.rows, c.merged ? pair_weight_rows(c.vectors) : tile_rows));
    c.blocks = static_cast<int>(ceil_div(s.group_cout(), c.width));
    cut_units(c);
    // A partial sum costs writing and reading the weights once: worth it per about 480 pairs of pixels.
    const long pairs = ceil_div(c.images, 2) * s.out_pixels(), weights = s.weight_floats();
    c.sums = max_of(1L, min_of(min_of(c.units, pairs / 480), min_of(64L, partial_floats / weights)));
    const long want = ceil_div(piece_count(plan.shape.macs(n) / 2), c.sums);
    c.group_parts = static_cast<int>(min_of<long>(want, s.groups));
    c.block_parts = s.groups > 1 ? 1 : static_cast<int>(min_of<long>(want, c.blocks));
    // Every part copies the rows and columns that it needs, which few of them would not repay.
    const long left = s.groups > 1 || c.merged ? 1 : ceil_div(want, c.block_parts);
    c.row_parts = static_cast<int>(max_of(1L, min_of<long>(left, c.panels() / 2)));
    return c;
}

PairPart get_part(const PairCut& c, long index) {
    const auto share = [](long count, long part, long parts) { return static_cast<int>(count * part / parts); };
    const long row = index % c.row_parts, block = index / c.row_parts % c.block_parts,
               group = index / c.row_parts / c.block_parts;
    return {share(c.s.groups, group, c.group_parts), share(c.s.groups, group + 1, c.group_parts),
            share(c.panels(), row, c.row_parts),     share(c.panels(), row + 1, c.row_parts),
            share(c.blocks, block, c.block_parts),   share(c.blocks, block + 1, c.block_parts)};
}

PairUnit get_unit(const PairCut& c, long index, Pair* copies) {
    PairUnit u;
    u.first = index / c.bands * c.pairs * 2;
    u.pairs = min_of(c.pairs, ceil_div(c.images - u.first, 2));
    u.begin = static_cast<int>(index % c.bands) * c.band;
    u.end = min_of(c.s.out[c.axis], u.begin + c.band);
    for (int i = 0; i < 3; i++)
        u.in[i] = input_extent(c.s, i, i == c.axis ? u.begin : 0, i == c.axis ? u.end : c.s.out[i], c.merged);
    u.in_pixels = u.pairs * u.size(0) * u.size(1) * u.size(2);
    u.out_pixels = u.pairs * c.s.out_pixels() / c.s.out[c.axis] * (u.end - u.begin);
    u.x = copies;
    u.dy = copies ? copies + round_up(u.in_pixels * c.x_pairs(), 16) : nullptr;
    return u;
}

long copy_pairs(const PairCut& c) {
    long most = 0;
    for (int band = 0; band < c.bands; band++) {
        const PairUnit u = get_unit(c, band, nullptr);
        const long x = round_up(u.in_pixels * c.x_pairs(), 16);
        most = max_of(most, x + u.out_pixels * c.dy_pairs());
    }
    return most;
}

void copy_unit(const PairCut& c, const PairUnit& u, const PairPart& part, const bf16* input, const bf16* grad_output) {
    const ConvShape& s = c.s;
    long x_pixel = 0, dy_pixel = 0;
    for (long pair = 0; pair < u.pairs; pair++) {
        const long image = u.first + 2 * pair;
        for (int z = u.in[0].begin; z < u.in[0].end; z++)
            for (int y = u.in[1].begin; y < u.in[1].end; y++, x_pixel += u.size(2))
                copy_x_row(c, u, part, input, image, z, y, x_pixel);
        int from[3] = {0, 0, 0}, to[3] = {s.out[0], s.out[1], s.out[2]};
        from[c.axis] = u.begin;
        to[c.axis] = u.end;
        const long count = to[2] - from[2];
        for (int z = from[0]; z < to[0]; z++)
            for (int y = from[1]; y < to[1]; y++, dy_pixel += count)
                copy_dy_row(c, u, part, grad_output, image, (static_cast<long>(z) * s.out[1] + y) * s.out[2] + from[2],
                            count, dy_pixel);
    }
}

// A piece takes some panels and blocks of one unit.
void copy_all(const PairCut& c, long copies, const bf16* input, const bf16* grad_output, Pair* shared) {
    const long shares = c.s.groups > 1 || c.merged ? 1 : max_of(1L, min_of(64 / c.units, c.dy_pairs() / c.width));
    parallel(c.units * shares, [&](long piece) {
        const long unit = piece / shares, share = piece % shares;
        const auto cut = [=](int count, long index) { return static_cast<int>(count * index / shares); };
        const PairPart part{0,
                            c.s.groups,
                            cut(c.panels(), share),
                            cut(c.panels(), share + 1),
                            cut(c.blocks, share),
                            cut(c.blocks, share + 1)};
        copy_unit(c, get_unit(c, unit, shared + unit * copies), part, input, grad_output);
    });
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
