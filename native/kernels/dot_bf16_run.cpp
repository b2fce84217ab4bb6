#include "kernels/dot_bf16_run.h"

#include "kernels/tap_walk.h"
#include "runtime/pool.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr long hot_pairs = (512 << 10) / 4;  // of packed weights that one core keeps in its second-level cache

struct Range {
    int group, block_begin, block_end;
    long tile_begin, tile_end;
};

long tile_count(const PairJob& job) {
    const TapConv& c = *job.conv;
    const long pixels = job.tile.pixels;
    return job.images ? c.position_count() * ceil_div(c.images, pixels)
                      : ceil_div(c.images * c.position_count(), pixels);
}

// Tiles in order; for each, the blocks of the range.
template <class Walk, class Table>
void walk_tiles(const PairJob& job, const Range& r, const bf16* from, typename Table::Out* to) {
    const TapConv& c = *job.conv;
    Table table;
    for (int t = 0; t < c.tap_count; t++) table.panel_tap[t] = t;
    Walk walk(c, job.tile.pixels, from, to);
    const Step all{0, c.tap_count, 0, c.depth, 0};
    const auto run = sizeof(typename Table::Out) == sizeof(bf16) ? job.tile.run : job.tile.run_float;
    void* out[max_pair_tile_pixels];
    PairTileArgs args;
    args.in = table.in;
    args.in_offset = static_cast<long>(r.group) * c.depth;
    args.depth = c.depth;
    args.panel_tap = table.panel_tap;
    args.out = out;
    args.residual = nullptr;
    args.bias = job.epilogue->bias;
    args.clamp = job.epilogue->clamp;
    args.low = job.epilogue->low;
    args.high = job.epilogue->high;
    const Pair* panels = job.packed + static_cast<long>(r.group) * job.layout.blocks * job.layout.block_pairs;
    walk.seek(r.tile_begin);
    for (long tile = r.tile_begin; tile < r.tile_end; tile++, walk.next()) {
        walk.fill(all, table);
        for (int i = 0; i < job.tile.pixels; i++) out[i] = table.out[i];
        args.taps = table.taps;
        args.pixels = table.pixels;
        for (int block = r.block_begin; block < r.block_end; block++) {
            const int column = block * job.layout.width;
            args.panel = panels + block * job.layout.block_pairs;
            args.column = static_cast<long>(r.group) * c.columns + column;
            args.columns = min_of(job.layout.width, c.columns - column);
            run(args);
        }
    }
}

template <class Out>
void run_range(const PairJob& job, const Range& r, const bf16* from, void* to) {
    using Table = TileTableOf<bf16, Out, max_taps, max_pair_tile_pixels>;
    if (job.images)
        walk_tiles<ImageWalkOf<Table>, Table>(job, r, from, static_cast<Out*>(to));
    else
        walk_tiles<PixelWalkOf<Table>, Table>(job, r, from, static_cast<Out*>(to));
}

}  // namespace

// Pieces are (group, blocks whose weights stay hot together, range of tiles), as many as give each enough work.
void run_pairs(const PairJob& job, const bf16* from, void* to) {
    const TapConv& c = *job.conv;
    const long tiles = tile_count(job);
    const long hot = max_of(1L, min_of<long>(job.layout.blocks, hot_pairs / job.layout.block_pairs));
    long spans = ceil_div(job.layout.blocks, hot);
    const long want = piece_count(c.macs() / 2);
    const long chunks = max_of(1L, min_of(tiles, ceil_div(want, spans * c.groups)));
    if (spans * c.groups * chunks < want)  // few tiles, as in a dense layer: fewer blocks per piece
        spans = max_of(spans, min_of<long>(job.layout.blocks, ceil_div(want, c.groups * chunks)));
    parallel(c.groups * spans * chunks, [&](long piece) {
        const long chunk = piece % chunks, span = piece / chunks % spans;
        Range r;
        r.group = static_cast<int>(piece / chunks / spans);
        r.block_begin = static_cast<int>(job.layout.blocks * span / spans);
        r.block_end = static_cast<int>(job.layout.blocks * (span + 1) / spans);
        r.tile_begin = tiles * chunk / chunks;
        r.tile_end = tiles * (chunk + 1) / chunks;
        (job.float_output ? run_range<float> : run_range<bf16>)(job, r, from, to);
    });
}

void run_pairs_here(const PairJob& job, const bf16* from, void* to) {
    (job.float_output ? run_range<float> : run_range<bf16>)(job, {0, 0, job.layout.blocks, 0, tile_count(job)}, from,
                                                            to);
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
