#include "kernels/tap_run.h"

#include "kernels/tap_walk.h"
#include "runtime/pool.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

struct Range {
    int group, block_begin, block_end;
    long tile_begin, tile_end;
};

long tile_count(const TapJob& job) {
    const TapConv& c = *job.conv;
    const long pixels = job.tile.pixels;
    return job.images ? c.position_count() * ceil_div(c.images, pixels)
                      : ceil_div(c.images * c.position_count(), pixels);
}

// Where few products make an output, writing takes as long as computing: the lines that the next tile writes are
// fetched while this one is computed.
constexpr long few_products = 64;

// Outputs beyond this many leave the third-level cache as they are written; fetching them then costs bandwidth.
constexpr long third_level_floats = (32 << 20) / 4;

// Pixels of a pointwise convolution are many short streams, which no hardware prefetcher follows.
FOVEA_INLINE void fetch_inputs(const TileTable& table, long offset, long depth) {
    for (int i = 0; i < table.pixels; i++)
        for (long k = 0; k < depth; k += 16) __builtin_prefetch(table.in[i] + offset + k, 0, 2);
}

FOVEA_INLINE void fetch_outputs(const TileTable& table, long offset, int columns) {
    for (int i = 0; i < table.pixels; i++)
        for (int j = 0; j < columns; j += 16) __builtin_prefetch(table.out[i] + offset + j, 1);
}

// Tiles in order; for each, the blocks whose weights are hot.
template <class Walk>
void walk_tiles(const TapJob& job, const Range& r, const Step& step, const float* panels, long panel_stride, bool first,
                bool last, const float* from, float* to) {
    const TapConv& c = *job.conv;
    TileTable table;
    for (int t = 0; t < max_step_taps; t++) table.panel_tap[t] = t;
    Walk walk(c, job.tile.pixels, from, to);
    TileArgs args;
    args.in = table.in;
    args.in_offset = static_cast<long>(r.group) * c.depth + step.depth_begin;
    args.depth = step.depth_end - step.depth_begin;
    args.panel_tap = table.panel_tap;
    args.out = table.out;
    args.accumulate = !first;
    args.bias = first ? job.epilogue->bias : nullptr;
    args.clamp = last && job.epilogue->clamp;
    args.low = job.epilogue->low;
    args.high = job.epilogue->high;
    const bool few = static_cast<long>(c.tap_count) * c.depth <= few_products;
    const bool fits = c.images * c.position_count() * c.groups * c.columns <= third_level_floats;
    const long ahead = few && fits ? job.tile.pixels * c.out_stride[2] : 0;
    const long next_tile = job.tile.pixels * c.in_stride[2] * c.step[2];
    const long in_ahead = c.tap_count > 1 ? 0
                          : job.ahead     ? (address(job.ahead) - address(from)) / static_cast<long>(sizeof(float))
                                          : next_tile;
    walk.seek(r.tile_begin);
    for (long tile = r.tile_begin; tile < r.tile_end; tile++, walk.next()) {
        walk.fill(step, table);
        args.taps = table.taps;
        args.pixels = table.pixels;
        if (in_ahead != 0) fetch_inputs(table, args.in_offset + in_ahead, args.depth);
        for (int block = r.block_begin; block < r.block_end; block++) {
            const int column = block * job.layout.width;
            args.panel = panels + (block - r.block_begin) * panel_stride;
            args.column = static_cast<long>(r.group) * c.columns + column;
            args.columns = min_of(job.layout.width, c.columns - column);
            if (ahead > 0) fetch_outputs(table, ahead + args.column, args.columns);
            job.tile.run(args);
        }
    }
}

void run_range(const TapJob& job, const Range& r, const float* from, float* to) {
    const TapConv& c = *job.conv;
    const int steps = step_count(c, job.layout);
    for (int i = 0; i < steps; i++) {
        const Step step = get_step(c, job.layout, i);
        const float* panels;
        long stride = job.layout.block_floats;
        if (job.packed) {
            panels = job.packed + r.group * job.layout.group_floats() + r.block_begin * stride + step.offset;
        } else {
            stride = job.layout.step_floats();
            float* own = thread_scratch((r.block_end - r.block_begin) * stride);
            for (int block = r.block_begin; block < r.block_end; block++)
                pack_step(*job.shape, job.transposed, c, job.layout, step, r.group, block, job.weight,
                          own + (block - r.block_begin) * stride);
            panels = own;
        }
        if (job.images)
            walk_tiles<ImageWalk>(job, r, step, panels, stride, i == 0, i + 1 == steps, from, to);
        else
            walk_tiles<PixelWalk>(job, r, step, panels, stride, i == 0, i + 1 == steps, from, to);
    }
}

}  // namespace

// Pieces are (group, blocks whose weights stay hot together, range of tiles), as many as give each enough work.
void run_taps(const TapJob& job, const float* from, float* to) {
    const TapConv& c = *job.conv;
    const long tiles = tile_count(job);
    const long hot = max_of(1L, min_of<long>(job.layout.blocks, hot_panel_floats / job.layout.step_floats()));
    long spans = ceil_div(job.layout.blocks, hot);
    const long want = piece_count(c.macs());
    const long most = job.packed ? tiles : max_of(1L, tiles / 8);  // who packs for itself needs tiles that repay it
    long chunks = max_of(1L, min_of(most, ceil_div(want, spans * c.groups)));
    const long rows = c.images * c.position_count();
    // More weights than activations: every core reads a share of the weights, and all of the few inputs. Else rows are
    // split, as what comes before and behind does it: each core then finds its inputs in its own caches.
    const bool mostly_weights = static_cast<long>(c.depth) * c.columns > rows * (c.depth + c.columns);
    if (job.packed && c.tap_count == 1 && mostly_weights) {
        spans = max_of(spans, min_of<long>(job.layout.blocks, want));
        chunks = max_of(1L, min_of(tiles, ceil_div(min_of(want, 16L), spans * c.groups)));
    } else if (spans * c.groups * chunks < min_of(want, 16L))  // few tiles, as in a dense layer: fewer blocks per piece
        spans = max_of(spans, min_of<long>(job.layout.blocks, ceil_div(want, c.groups * chunks)));
    parallel(c.groups * spans * chunks, [&](long piece) {
        const long chunk = piece % chunks, span = piece / chunks % spans;
        Range r;
        r.group = static_cast<int>(piece / chunks / spans);
        r.block_begin = static_cast<int>(job.layout.blocks * span / spans);
        r.block_end = static_cast<int>(job.layout.blocks * (span + 1) / spans);
        r.tile_begin = tiles * chunk / chunks;
        r.tile_end = tiles * (chunk + 1) / chunks;
        run_range(job, r, from, to);
    });
}

void run_taps_here(const TapJob& job, const float* from, float* to) {
    for (int group = 0; group < job.conv->groups; group++)
        run_range(job, {group, 0, job.layout.blocks, 0, tile_count(job)}, from, to);
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
