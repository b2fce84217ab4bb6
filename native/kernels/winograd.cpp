// Forward, and backward data as the forward of the mirrored shape. With many tiles the transformed weights are packed
// and each piece takes a chunk of tiles through all stages; with more weights than elements of tiles, each piece takes
// a block of output channels through all tiles and transforms the weights on its way, so that they never reach memory.
#include "kernels/winograd.h"

#include "kernels/tap_conv.h"
#include "kernels/winograd_multiply.h"
#include "kernels/winograd_tiles.h"
#include "kernels/winograd_weights.h"
#include "runtime/memory.h"
#include "runtime/pool.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

struct Job {
    int outputs, products;
    TileGrid grid;
    ProductTile tile;
    long depth, width, blocks;        // of a panel: the weights [depth][width] of one xi and one block of columns
    long panel_floats, panel_stride;  // from one xi to the next
    const Epilogue* epilogue = nullptr;

    Job(const ConvPlan& plan, const ConvShape& shape, int n)
        : outputs(winograd_outputs(plan)),
          products((outputs + 2) * (outputs + 2)),
          grid(shape, outputs, n),
          tile(find_product_tile(plan.tile_pixels, plan.tile_vectors)),
          depth(shape.cin),
          width(tile.vectors * VL),
          blocks(ceil_div(shape.cout, width)),
          panel_floats(depth * width),
          panel_stride(spread(blocks * panel_floats)) {}

    // The matrices of `rows` tiles, with `columns` channels.
    Matrices matrices(float* data, long rows, long columns) const {
        return {data, spread(rows * columns), columns, VL};
    }
    Matrices inputs(float* data, long rows) const { return matrices(data, rows, round_up(grid.cin, VL)); }
    long input_floats(long rows) const { return products * inputs(nullptr, rows).xi_stride; }
    long result_floats(long rows, long columns) const { return products * matrices(nullptr, rows, columns).xi_stride; }
    long weight_floats() const { return products * panel_stride; }
    long all_rows() const { return round_up(grid.tiles, tile.rows); }
};

ConvShape forward_shape(const ConvPlan& plan) {
    return plan.pass == ConvPass::backward_data ? mirrored(plan.shape) : plan.shape;
}

// Weights that stay in a second-level cache.
constexpr long resident_floats = (640 << 10) / 4;

// Tiles of a chunk: few enough to stay in its second-level cache with the weights passing by, and enough to make that
// stream slow (each vector of weights does as many multiplications as there are tiles).
long chunk_rows(const Job& job) {
    const long chunk_floats = (512 << 10) / 4;
    const long per_tile = job.products * (round_up(job.grid.cin, VL) + job.blocks * job.width);
    const double macs = static_cast<double>(job.grid.tiles) * job.weight_floats();
    const long pieces = min_of(piece_count(macs), ceil_div(job.grid.tiles, job.tile.rows));
    const long least = job.weight_floats() > resident_floats ? 24 : job.tile.rows;
    const long most = max_of(least, chunk_floats / per_tile);
    return round_up(max_of(least, min_of(most, ceil_div(job.grid.tiles, pieces))), job.tile.rows);
}

template <class From, class To>
void run_chunks(const Job& job, const From* from, const float* packed, To* to) {
    const long rows = chunk_rows(job), chunks = ceil_div(job.grid.tiles, rows), columns = job.blocks * job.width;
    parallel(chunks, [&](long chunk) {
        float* own = thread_scratch(job.input_floats(rows) + job.result_floats(rows, columns));
        const Matrices in = job.inputs(own, rows), out = job.matrices(own + job.input_floats(rows), rows, columns);
        const long first = chunk * rows, count = min_of(rows, job.grid.tiles - first);
        // Tiles of the next chunk, which mostly is this thread's, too; not where the weights fill the cache.
        const long left = job.grid.tiles - first - count;
        const long ahead = job.weight_floats() > resident_floats ? 0 : min_of(rows, left);
        transform_inputs(job.outputs, job.grid, from, first, count, in);
        for (int xi = 0; xi < job.products; xi++) {
            const auto share = [&](long tiles) { return tiles * (xi + 1) / job.products - tiles * xi / job.products; };
            const TileGrid& g = job.grid;
            prefetch_pixels(job.outputs, g, g.out, g.cout, first + count * xi / job.products, share(count), to);
            prefetch_pixels(job.outputs, g, g.in, g.cin, first + count + ahead * xi / job.products, share(ahead), from);
            for (long block = 0; block < job.blocks; block++)
                job.tile.run(in.data + xi * in.xi_stride, in.tile_stride, round_up(count, job.tile.rows), job.depth,
                             packed + xi * job.panel_stride + block * job.panel_floats,
                             out.data + xi * out.xi_stride + block * job.width, out.tile_stride, false);
        }
        transform_products(job.outputs, job.grid, out, first, count, 0, job.grid.cout, to, *job.epilogue);
    });
}

template <class From, class To>
void run_blocks(const Job& job, const From* from, const WeightSource& source, To* to, float* scratch) {
    const long tiles = job.grid.tiles, rows = job.all_rows(), grain = max_of(1L, 16384 / (job.products * job.depth));
    const Matrices in = job.inputs(scratch, rows);
    parallel(ceil_div(tiles, grain), [&](long piece) {
        Matrices part = in;
        part.data += piece * grain * in.tile_stride;
        transform_inputs(job.outputs, job.grid, from, piece * grain, min_of(grain, tiles - piece * grain), part);
    });
    // Depth done at once: panels of about 1 MB; with shorter ones, reading rows of tiles and adding to the results
    // shows.
    const long fitting = (1 << 20) / 4 / (job.products * job.width), some = max_of(64L, fitting / VL * VL);
    const long panel_stride = spread(some * job.width);
    parallel(job.blocks, [&](long block) {
        float* panels = thread_scratch(job.products * panel_stride + job.result_floats(rows, job.width));
        const Matrices out = job.matrices(panels + job.products * panel_stride, rows, job.width);
        for (long k = 0; k < job.depth; k += some) {
            const long end = min_of(job.depth, k + some);
            for (long column = 0; column < job.width; column += VL)
                transform_weights(job.outputs, source, k, end, block * job.width + column, panels + column, job.width,
                                  panel_stride);
            for (int xi = 0; xi < job.products; xi++)
                job.tile.run(in.data + xi * in.xi_stride + k, in.tile_stride, rows, end - k, panels + xi * panel_stride,
                             out.data + xi * out.xi_stride, out.tile_stride, k > 0);
        }
        transform_products(job.outputs, job.grid, out, 0, tiles, static_cast<int>(block * job.width),
                           static_cast<int>(min_of(job.width, job.grid.cout - block * job.width)), to, *job.epilogue);
    });
}

}  // namespace

void plan_winograd(ConvPlan& plan, int outputs) {
    plan.algorithm = outputs == 4 ? ConvAlgorithm::winograd4 : ConvAlgorithm::winograd2;
    if (plan.pass == ConvPass::backward_weight) return plan_winograd_weight(plan);
    const ConvShape shape = forward_shape(plan);
    const ProductTile tile = choose_product_tile(TileGrid(shape, outputs, plan.batch).tiles, shape.cout);
    plan.tile_pixels = tile.rows;
    plan.tile_vectors = tile.vectors;
    const Job job(plan, shape, plan.batch);
    const bool blocks = winograd_has_few_tiles(plan.pass, shape, job.grid.tiles);
    plan.packed_floats = static_cast<size_t>(blocks ? 0 : job.weight_floats());
    plan.scratch_floats = static_cast<size_t>(blocks ? job.input_floats(job.all_rows()) : 0);
}

void pack_winograd(const ConvPlan& plan, const float* weight, float* packed) {
    const ConvShape shape = forward_shape(plan);
    const Job job(plan, shape, plan.batch);
    const WeightSource source{&shape, plan.pass == ConvPass::backward_data, weight};
    const long depths = ceil_div(job.depth, VL);
    parallel(depths * (job.blocks * job.width / VL), [&](long item) {
        const long k = item % depths * VL, column = item / depths * VL;
        float* out = packed + column / job.width * job.panel_floats + k * job.width + column % job.width;
        transform_weights(job.outputs, source, k, min_of(job.depth, k + VL), column, out, job.width, job.panel_stride);
    });
}

template <class From, class To>
void run_winograd(const ConvPlan& plan, int n, const From* from, const float* weight, To* to, float* scratch,
                  const Epilogue& epilogue) {
    const ConvShape shape = forward_shape(plan);
    Job job(plan, shape, n);
    job.epilogue = &epilogue;
    if (plan.packed_floats)
        run_chunks(job, from, weight, to);
    else
        run_blocks(job, from, {&shape, plan.pass == ConvPass::backward_data, weight}, to, scratch);
}

#define FOVEA_STORED_AS(From, To) \
    template void run_winograd<From, To>(const ConvPlan&, int, const From*, const float*, To*, float*, const Epilogue&);
FOVEA_STORED_AS(float, float)
FOVEA_STORED_AS(bf16, bf16)
FOVEA_STORED_AS(bf16, float)
#undef FOVEA_STORED_AS

}  // namespace fovea::FOVEA_ISA_NAMESPACE
