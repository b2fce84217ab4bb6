// Backward weight by the adjoint of the forward algorithm: with V = Bt x B and D = A dy At per tile, the products
//   dU[xi] = V[xi]^T D[xi]   and   dw = Gt dU G.
// The (m + 2)^2 products are independent, so the pieces split them and no sum is split: bits depend on no thread.
#include "kernels/winograd.h"
#include "kernels/winograd_basis.h"
#include "kernels/winograd_multiply.h"
#include "kernels/winograd_tiles.h"
#include "runtime/memory.h"
#include "runtime/pool.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// Transformed tiles that are in memory at once: enough to repay reading and writing the sums.
constexpr long chunk_floats = (2 << 20) / 4, least_tiles = 64;
// Sums that one piece keeps in cache.
constexpr long group_floats = (256 << 10) / 4;

struct Job {
    int outputs, products;
    TileGrid grid;
    WeightProduct tile;
    long blocks;     // of output channels
    long rows, row;  // input and output channels, filled up to whole vectors and blocks
    long chunk;      // tiles whose transforms are in memory at once; from the capacity, so bits do not depend on n
    Matrices v, d;   // [xi][channels / VL][tile][VL]
    float* sums;     // [xi][input channel][output channel]
    long xi_sums;
    // Few tiles: all of them are kept, and the sums are not.
    bool keeps_tiles;

    long floats() const { return products * (v.xi_stride + d.xi_stride + (keeps_tiles ? 0 : xi_sums)); }
    long group() const { return max_of<long>(VL, group_floats / (products * tile.vectors * VL) / VL * VL); }
    const float* v_at(long xi, long channel) const {
        return v.data + xi * v.xi_stride + channel / VL * v.vector_stride + channel % VL;
    }
    const float* d_at(long xi, long block) const {
        return d.data + xi * d.xi_stride + block * tile.vectors * d.vector_stride;
    }
};

Job make_job(const ConvPlan& plan, int n, float* scratch) {
    const int m = winograd_outputs(plan);
    Job job{};
    job.outputs = m;
    job.products = (m + 2) * (m + 2);
    job.grid = TileGrid(plan.shape, m, n);
    job.tile = find_weight_product(plan.tile_vectors);
    const long width = job.tile.vectors * VL;
    job.blocks = ceil_div(plan.shape.cout, width);
    job.row = job.blocks * width;
    job.rows = round_up(plan.shape.cin, VL);
    job.xi_sums = spread(job.rows * job.row);
    const long tiles = static_cast<long>(plan.batch) * job.grid.per_image;
    job.keeps_tiles = winograd_has_few_tiles(plan.pass, plan.shape, tiles);
    const long fitting = max_of(least_tiles, chunk_floats / (job.products * (job.row + job.rows)));
    job.chunk = job.keeps_tiles ? tiles : ceil_div(tiles, ceil_div(tiles, fitting));
    job.v = {scratch, spread(job.chunk * job.rows), VL, job.chunk * VL};
    job.d = {scratch + job.products * job.v.xi_stride, spread(job.chunk * job.row), VL, job.chunk * VL};
    job.sums = job.d.data + job.products * job.d.xi_stride;
    return job;
}

// Tiles first .. first + count of the grid into the matrices.
void transform(const Job& job, long first, long count, const float* input, const float* grad_output) {
    const long grain = max_of(1L, 16384 / (job.products * (job.rows + job.row)));
    parallel(ceil_div(count, grain), [&](long piece) {
        const long begin = piece * grain, tiles = min_of(grain, count - begin);
        Matrices v = job.v, d = job.d;
        v.data += begin * v.tile_stride;
        d.data += begin * d.tile_stride;
        transform_inputs(job.outputs, job.grid, input, first + begin, tiles, v);
        transform_gradients(job.outputs, job.grid, grad_output, first + begin, tiles, d);
    });
}

void multiply(const Job& job, long count, bool accumulate) {
    const long row_tiles = job.rows / job.tile.rows, width = job.tile.vectors * VL;
    const long spans = min_of(row_tiles, ceil_div(64, job.products * job.blocks));
    parallel(job.products * job.blocks * spans, [&](long piece) {
        const long span = piece % spans, block = piece / spans % job.blocks, xi = piece / spans / job.blocks;
        const long end = row_tiles * (span + 1) / spans * job.tile.rows;
        for (long c = row_tiles * span / spans * job.tile.rows; c < end; c += job.tile.rows)
            job.tile.run(job.v_at(xi, c), job.d_at(xi, block), job.d.vector_stride, count,
                         job.sums + xi * job.xi_sums + c * job.row + block * width, job.row, accumulate);
    });
}

// dw of `rows` input channels and `columns` output channels: sums is [xi][row][column].
template <int m>
void finish(const ConvShape& s, const float* sums, long xi_stride, long row, long rows, long columns, float* out) {
    using T = typename Winograd<m>::WeightAdjoint;
    const long tap = static_cast<long>(s.cin) * s.cout;
    for (long c = 0; c < rows; c++, sums += row, out += s.cout)
        for (long o = 0; o < columns; o += VL) {
            const Mask mask = first_lanes(columns - o);
            transform_2d<T>(
                [&](int i, int j) FOVEA_INLINE_LAMBDA { return load(sums + (i * T::from + j) * xi_stride + o); },
                [&](int i, int j, Vec v) FOVEA_INLINE_LAMBDA { store(out + (i * 3 + j) * tap + o, v, mask); });
        }
}

void finish(const Job& job, const ConvShape& s, const float* sums, long xi_stride, long row, long rows, long columns,
            float* out) {
    (job.outputs == 4 ? finish<4> : finish<2>)(s, sums, xi_stride, row, rows, columns, out);
}

void finish_all(const Job& job, const ConvShape& s, float* grad_weight) {
    const long grain = max_of(1L, 16384 / (job.products * job.row));
    parallel(ceil_div(s.cin, grain), [&](long piece) {
        const long c = piece * grain;
        finish(job, s, job.sums + c * job.row, job.xi_sums, job.row, min_of(grain, s.cin - c), s.cout,
               grad_weight + c * s.cout);
    });
}

// All tiles are in the matrices: each piece makes all products of a group of input channels and a block of output
// channels, and their dw, so that the sums never reach memory.
void multiply_and_finish(const Job& job, const ConvShape& s, float* grad_weight) {
    const long width = job.tile.vectors * VL, group = job.group(), xi_stride = spread(group * width);
    parallel(ceil_div(job.rows, group) * job.blocks, [&](long piece) {
        const long block = piece % job.blocks, first = piece / job.blocks * group;
        const long end = min_of(job.rows, first + group), column = block * width;
        float* sums = thread_scratch(job.products * xi_stride);
        for (int xi = 0; xi < job.products; xi++)
            for (long c = first; c < end; c += job.tile.rows)
                job.tile.run(job.v_at(xi, c), job.d_at(xi, block), job.d.vector_stride, job.grid.tiles,
                             sums + xi * xi_stride + (c - first) * width, width, false);
        finish(job, s, sums, xi_stride, width, min_of<long>(s.cin, end) - first, min_of(width, s.cout - column),
               grad_weight + first * s.cout + column);
    });
}

}  // namespace

void plan_winograd_weight(ConvPlan& plan) {
    const WeightProduct tile = choose_weight_product(plan.shape.cout);
    plan.tile_pixels = tile.rows;
    plan.tile_vectors = tile.vectors;
    plan.packed_floats = 0;
    plan.scratch_floats = static_cast<size_t>(make_job(plan, plan.batch, nullptr).floats());
}

void run_winograd_weight(const ConvPlan& plan, int n, const float* input, const float* grad_output, float* grad_weight,
                         float* scratch) {
    const Job job = make_job(plan, n, scratch);
    if (job.keeps_tiles) {
        transform(job, 0, job.grid.tiles, input, grad_output);
        multiply_and_finish(job, plan.shape, grad_weight);
        return;
    }
    for (long first = 0; first < job.grid.tiles; first += job.chunk) {
        const long count = min_of(job.chunk, job.grid.tiles - first);
        transform(job, first, count, input, grad_output);
        multiply(job, count, first > 0);
    }
    finish_all(job, plan.shape, grad_weight);
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
