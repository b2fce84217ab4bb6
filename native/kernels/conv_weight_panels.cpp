#include "kernels/conv_weight.h"
#include "kernels/weight_tile.h"
#include "runtime/memory.h"
#include "runtime/pool.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr long dy_panel_floats = (384 << 10) / 4;  // what stays in the second-level cache while all rows and taps pass

struct Panels {
    ConvShape s;
    int vectors, width, blocks;  // of output channels
    int max_rows, row_tiles;     // of input channels, per group
    long in_pixels;              // of all images
    int images;                  // per panel of dy
    int parts;                   // of the row tiles, to have enough pieces
    int row_begin(int tile) const { return static_cast<int>(static_cast<long>(s.group_cin()) * tile / row_tiles); }
};

Panels make_panels(const ConvShape& s, int vectors, int n) {
    Panels p;
    p.s = s;
    p.vectors = vectors;
    p.width = vectors * VL;
    p.blocks = static_cast<int>(ceil_div(s.group_cout(), p.width));
    p.max_rows = weight_tile_rows(vectors);
    p.row_tiles = static_cast<int>(ceil_div(s.group_cin(), p.max_rows));
    p.in_pixels = n * s.in_pixels();
    p.images = static_cast<int>(max_of(1L, min_of<long>(n, dy_panel_floats / (s.out_pixels() * p.width))));
    // Each piece packs its own panel of dy, which must be used often enough to repay that.
    const int want = static_cast<int>(ceil_div(64, p.blocks * s.groups));
    p.parts = max_of(1, min_of(want, p.row_tiles * s.taps() / 16));
    p.parts = min_of(p.parts, p.row_tiles);
    return p;
}

// x as [group, row tile][pixel][max_rows].
void pack_x(const Panels& p, const float* input, float* panels) {
    const long chunk = 256;
    parallel(ceil_div(p.in_pixels, chunk), [&](long piece) {
        const long end = min_of(p.in_pixels, (piece + 1) * chunk);
        for (long first = piece * chunk; first < end; first += 16)  // 16 pixels of a panel follow each other
            for (int tile = 0; tile < p.s.groups * p.row_tiles; tile++) {
                const int row = p.row_begin(tile % p.row_tiles), rows = p.row_begin(tile % p.row_tiles + 1) - row;
                const float* in = input + first * p.s.cin + tile / p.row_tiles * p.s.group_cin() + row;
                float* out = panels + (tile * p.in_pixels + first) * p.max_rows;
                for (long pixel = first; pixel < min_of(end, first + 16); pixel++, in += p.s.cin, out += p.max_rows)
                    for (int i = 0; i < rows; i++) out[i] = in[i];
            }
    });
}

// Columns of dy as [pixel][width], 0 beyond the last column.
void pack_dy(const Panels& p, const float* dy, long pixels, int columns, float* panel) {
    for (long pixel = 0; pixel < pixels; pixel++, dy += p.s.cout, panel += p.width)
        for (int j = 0; j < p.vectors; j++)
            store(panel + j * VL,
                  columns == p.width ? load(dy + j * VL) : load(dy + j * VL, first_lanes(columns - j * VL)));
}

struct Block {
    int group, column, columns;  // of the group
};

// Adds images first .. first + images to all taps of one row tile.
void add_row_tile(const Panels& p, const Block& b, int tile, int first, int images, const float* x_panels,
                  const float* dy_panel, float* grad_weight) {
    const ConvShape& s = p.s;
    const int row = p.row_begin(tile), rows = p.row_begin(tile + 1) - row;
    const WeightTile run = find_weight_tile(rows, p.vectors, b.columns != p.width);
    const float* x_panel =
        x_panels + ((b.group * p.row_tiles + tile) * p.in_pixels + first * s.in_pixels()) * p.max_rows;
    const long x_pixel[3] = {static_cast<long>(s.in[1]) * s.in[2], s.in[2], 1};
    const long dy_pixel[3] = {static_cast<long>(s.out[1]) * s.out[2], s.out[2], 1};
    for (int tap = 0; tap < s.taps(); tap++) {
        const int m[3] = {tap / s.kernel[2] / s.kernel[1], tap / s.kernel[2] % s.kernel[1], tap % s.kernel[2]};
        WeightTileArgs a;
        a.count[0] = images;
        a.x_stride[0] = s.in_pixels() * p.max_rows;
        a.dy_stride[0] = s.out_pixels() * p.width;
        a.x = x_panel;
        a.dy = dy_panel;
        for (int i = 0; i < 3; i++) {
            const Span span = valid_span(s, i, m[i], 0, s.out[i]);
            a.count[i + 1] = span.end - span.begin;
            if (a.count[i + 1] == 0) a.count[0] = 0;
            a.x_stride[i + 1] = x_pixel[i] * s.stride[i] * p.max_rows;
            a.dy_stride[i + 1] = dy_pixel[i] * p.width;
            a.x +=
                (static_cast<long>(span.begin) * s.stride[i] + static_cast<long>(m[i]) * s.dilation[i] - s.pad_lo[i]) *
                x_pixel[i] * p.max_rows;
            a.dy += span.begin * a.dy_stride[i + 1];
        }
        a.x_tap = a.out_tap = 0;
        a.out_row = s.cout;
        a.out =
            grad_weight + (static_cast<long>(tap) * s.group_cin() + row) * s.cout + b.group * s.group_cout() + b.column;
        a.columns = b.columns;
        a.accumulate = first > 0;
        run(a);
    }
}

}  // namespace

size_t weight_panels_scratch(const ConvShape& s, int n) {
    const Panels p = make_panels(s, weight_tile_vectors(s.group_cout()), n);
    return static_cast<size_t>(s.groups) * p.row_tiles * p.in_pixels * p.max_rows;
}

void run_weight_panels(const ConvPlan& plan, int n, const float* input, const float* grad_output, float* grad_weight,
                       float* scratch) {
    const Panels p = make_panels(plan.shape, plan.tile_vectors, n);
    const ConvShape& s = plan.shape;
    pack_x(p, input, scratch);
    parallel(static_cast<long>(s.groups) * p.blocks * p.parts, [&](long piece) {
        const int part = static_cast<int>(piece % p.parts), block = static_cast<int>(piece / p.parts % p.blocks);
        Block b;
        b.group = static_cast<int>(piece / p.parts / p.blocks);
        b.column = block * p.width;
        b.columns = min_of(p.width, s.group_cout() - b.column);
        float* panel = thread_scratch(p.images * s.out_pixels() * p.width);
        for (int first = 0; first < n; first += p.images) {
            const int images = min_of(p.images, n - first);
            pack_dy(p, grad_output + first * s.out_pixels() * s.cout + b.group * s.group_cout() + b.column,
                    images * s.out_pixels(), b.columns, panel);
            for (int tile = p.row_tiles * part / p.parts; tile < p.row_tiles * (part + 1) / p.parts; tile++)
                add_row_tile(p, b, tile, first, images, scratch, panel, grad_weight);
        }
    });
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
