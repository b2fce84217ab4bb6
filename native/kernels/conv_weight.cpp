#include "kernels/conv_weight.h"

#include "kernels/padded.h"
#include "kernels/tap_conv.h"
#include "kernels/weight_tile.h"
#include "runtime/memory.h"
#include "runtime/pool.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr long unit_floats = (256 << 10) / 4;       // x and dy of what is walked once per tile: they stay in cache
constexpr long partial_floats = (8 << 20) / 4;      // all partial sums together
constexpr long panels_from_floats = (1 << 20) / 4;  // weights from which the other way wins

// How one shape is cut: computed again from plan and n, never from threads.
struct Cut {
    ConvShape s;
    bool merged;     // rows of the kernel joined with few channels, x copied with its padding
    int taps, rows;  // rows of dw per tap
    int tap_step;    // taps that one tile does at once
    int vectors, row_tiles, blocks;
    long tiles;  // per unit: groups x tap groups x row tiles x blocks
    Bands bands;
    int images;               // per unit
    long units, sums, parts;  // units are spread over `sums` partial sums; tiles over `parts`
};

bool merging_pays(const ConvShape& s) {
    return s.groups == 1 && s.kernel[2] > 1 && s.dilation[2] == 1 && s.cin < 16 && s.cin * s.kernel[2] <= 96;
}

void cut_units(Cut& c, int n) {
    const ConvShape& s = c.s;
    const long image = s.in_pixels() * s.cin + s.out_pixels() * s.cout;
    if (c.merged) {
        c.bands = make_bands(s, s.cin, unit_floats / 2, 1);
    } else {
        c.bands.axis = s.out[0] > 1 ? 0 : s.out[1] > 1 ? 1 : 2;
        const long extent = s.out[c.bands.axis];
        const long fitting = max_of(1L, min_of(extent, extent * unit_floats / image));
        c.bands.count = static_cast<int>(ceil_div(extent, fitting));
        c.bands.positions = static_cast<int>(ceil_div(extent, c.bands.count));
        c.bands.count = static_cast<int>(ceil_div(extent, c.bands.positions));
    }
    c.images = c.bands.count > 1 || c.merged ? 1 : static_cast<int>(max_of(1L, min_of<long>(n, unit_floats / image)));
    c.units = ceil_div(n, c.images) * c.bands.count;
}

Cut make_cut(const ConvPlan& plan, int n) {
    Cut c;
    c.s = plan.shape;
    c.merged = plan.algorithm == ConvAlgorithm::merged;
    c.taps = c.merged ? c.s.kernel[0] * c.s.kernel[1] : c.s.taps();
    c.rows = c.merged ? c.s.kernel[2] * c.s.cin : c.s.group_cin();
    c.vectors = plan.tile_vectors;
    c.tap_step = c.merged && c.vectors == 1 && find_tap_weight_tile(c.s.kernel[1], c.rows, true) ? c.s.kernel[1] : 1;
    c.row_tiles = c.tap_step > 1 ? 1 : static_cast<int>(ceil_div(c.rows, weight_tile_rows(c.vectors)));
    c.blocks = static_cast<int>(ceil_div(c.s.group_cout(), c.vectors * VL));
    c.tiles = static_cast<long>(c.s.groups) * (c.taps / c.tap_step) * c.row_tiles * c.blocks;
    cut_units(c, n);
    // A partial sum costs writing and reading the weights once: worth it per about 480 pixels.
    const long pixels = n * c.s.out_pixels(), weights = c.s.weight_floats();
    c.sums = max_of(1L, min_of(min_of(c.units, pixels / 480), min_of(64L, partial_floats / weights)));
    c.parts = max_of(1L, min_of(c.tiles, ceil_div(piece_count(c.s.macs(n)), c.sums)));
    return c;
}

// What one unit reads: addresses of its first position.
struct Unit {
    const float *x, *dy;
    long x_stride[4];
    int images, begin, end;
};

Unit get_unit(const Cut& c, long index, int n, const float* input, const float* grad_output, float* copy) {
    const ConvShape& s = c.s;
    const int first = static_cast<int>(index / c.bands.count) * c.images,
              band = static_cast<int>(index % c.bands.count);
    Unit u;
    u.images = min_of(c.images, n - first);
    u.begin = band * c.bands.positions;
    u.end = min_of(s.out[c.bands.axis], u.begin + c.bands.positions);
    u.x = input + first * s.in_pixels() * s.cin;
    u.dy = grad_output + first * s.out_pixels() * s.cout;
    int size[3] = {s.in[0], s.in[1], s.in[2]};
    if (c.merged) {
        for (int i = 0; i < 3; i++) size[i] = i == c.bands.axis ? window_span(s, i, u.end - u.begin) : c.bands.size[i];
        copy_padded(s, c.bands, u.begin, u.end, s.cin, u.x, copy);
        u.x = copy;
    }
    u.x_stride[3] = s.cin;
    u.x_stride[2] = u.x_stride[3] * size[2];
    u.x_stride[1] = u.x_stride[2] * size[1];
    u.x_stride[0] = u.x_stride[1] * size[0];
    return u;
}

// Pixels and addresses of one tap.
void set_pixels(const Cut& c, const Unit& u, int tap, WeightTileArgs& a) {
    const ConvShape& s = c.s;
    const int kernel_w = c.merged ? 1 : s.kernel[2];
    const int m[3] = {tap / kernel_w / s.kernel[1], tap / kernel_w % s.kernel[1], tap % kernel_w};
    const long dy_pixel[3] = {static_cast<long>(s.out[1]) * s.out[2], s.out[2], 1};
    a.x = u.x;
    a.dy = u.dy;
    a.count[0] = u.images;
    a.x_stride[0] = u.x_stride[0];
    a.dy_stride[0] = s.out_pixels() * s.cout;
    for (int i = 0; i < 3; i++) {
        const int begin = i == c.bands.axis ? u.begin : 0, end = i == c.bands.axis ? u.end : s.out[i];
        const Span span = c.merged ? Span{begin, end} : valid_span(s, i, m[i], begin, end);
        const long from = static_cast<long>(c.merged ? span.begin - begin : span.begin) * s.stride[i] +
                          static_cast<long>(m[i]) * s.dilation[i] - (c.merged ? 0 : s.pad_lo[i]);
        a.count[i + 1] = span.end - span.begin;
        a.x_stride[i + 1] = u.x_stride[i + 1] * s.stride[i];
        a.dy_stride[i + 1] = dy_pixel[i] * s.cout;
        if (a.count[i + 1] == 0) a.count[0] = 0;  // nothing to add; the addresses are not used
        a.x += from * u.x_stride[i + 1];
        a.dy += span.begin * a.dy_stride[i + 1];
    }
}

void add_unit(const Cut& c, const Unit& u, long tile_begin, long tile_end, bool accumulate, float* out) {
    const ConvShape& s = c.s;
    WeightTileArgs a;
    a.out_row = s.cout;
    a.out_tap = static_cast<long>(c.rows) * s.cout;
    a.x_tap = u.x_stride[2] * s.dilation[1];
    a.accumulate = accumulate;
    const int width = c.vectors * VL, og = s.group_cout(), tap_groups = c.taps / c.tap_step;
    long known = -1;
    const float *x = nullptr, *dy = nullptr;
    for (long tile = tile_begin; tile < tile_end; tile++) {
        const int block = static_cast<int>(tile % c.blocks), row_tile = static_cast<int>(tile / c.blocks % c.row_tiles);
        const long tap_index = tile / c.blocks / c.row_tiles;
        const int tap = static_cast<int>(tap_index % tap_groups) * c.tap_step,
                  group = static_cast<int>(tap_index / tap_groups);
        if (tap_index != known) {
            set_pixels(c, u, tap, a);
            x = a.x + group * s.group_cin();
            dy = a.dy + group * og;
            known = tap_index;
        }
        const int row = static_cast<int>(static_cast<long>(c.rows) * row_tile / c.row_tiles);
        const int rows = static_cast<int>(static_cast<long>(c.rows) * (row_tile + 1) / c.row_tiles) - row;
        a.columns = min_of(width, og - block * width);
        a.x = x + row;
        a.dy = dy + block * width;
        a.out = out + tap * a.out_tap + static_cast<long>(row) * s.cout + group * og + block * width;
        const bool ragged = a.columns % VL != 0;
        const int vectors = static_cast<int>(ceil_div(a.columns, VL));
        (c.tap_step > 1 ? find_tap_weight_tile(c.tap_step, rows, ragged) : find_weight_tile(rows, vectors, ragged))(a);
    }
}

}  // namespace

void plan_conv_weight(ConvPlan& plan) {
    const ConvShape& s = plan.shape;
    plan.packed_floats = 0;
    plan.tile_pixels = 1;
    plan.tile_vectors = weight_tile_vectors(s.group_cout());
    plan.algorithm = s.weight_floats() > panels_from_floats ? ConvAlgorithm::panels
                     : merging_pays(s)                      ? ConvAlgorithm::merged
                                                            : ConvAlgorithm::tiles;
    if (plan.algorithm == ConvAlgorithm::panels) {
        plan.scratch_floats = weight_panels_scratch(s, plan.batch);
        return;
    }
    // More images can mean fewer but larger units; no n asks for more partial sums than this.
    const long most =
        max_of(1L, min_of(min_of(64L, partial_floats / s.weight_floats()), plan.batch * s.out_pixels() / 480));
    plan.scratch_floats = most > 1 ? static_cast<size_t>(most * s.weight_floats()) : 0;
}

void run_conv_weight(const ConvPlan& plan, int n, const float* input, const float* grad_output, float* grad_weight,
                     float* scratch) {
    if (plan.algorithm == ConvAlgorithm::panels)
        return run_weight_panels(plan, n, input, grad_output, grad_weight, scratch);
    const Cut c = make_cut(plan, n);
    const long weights = plan.shape.weight_floats();
    parallel(c.sums * c.parts, [&](long piece) {
        const long sum = piece / c.parts, part = piece % c.parts;
        float* copy = c.merged ? thread_scratch(c.bands.floats()) : nullptr;
        const long begin = c.units * sum / c.sums, end = c.units * (sum + 1) / c.sums;
        for (long unit = begin; unit < end; unit++)
            add_unit(c, get_unit(c, unit, n, input, grad_output, copy), c.tiles * part / c.parts,
                     c.tiles * (part + 1) / c.parts, unit > begin, c.sums > 1 ? scratch + sum * weights : grad_weight);
    });
    if (c.sums > 1) add_partial_sums(scratch, weights, c.sums, grad_weight);
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
