// Backward weight by the adjoint of the forward algorithm: with V = Bt x B and D = A dy At per tile, the products
//   dU[xi] = V[xi]^T D[xi]   and   dw = Gt dU G.
// The (m + 2)^2 products are independent, so the pieces split them and no sum is split: bits depend on no thread.
#include "kernels/winograd.h"
#include "kernels/winograd_basis.h"
#include "kernels/winograd_multiply.h"
#include "kernels/winograd_tiles.h"
#include "runtime/pool.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// Transformed tiles that are in memory at once: enough to repay reading and writing the sums.
constexpr long chunk_floats = (4 << 20) / 4, least_tiles = 128;

struct Job {
    int outputs, products;
    TileGrid grid;
    WeightProduct tile;
    int blocks;     // of output channels
    long rows;      // input channels, in whole vectors
    long chunk;     // tiles whose transforms are in memory at once; from the capacity, so bits do not depend on n
    Matrices v, d;  // [xi][channels / VL][tile][VL]
    float* sums;    // [xi][input channel][output channel]
    long row, xi_sums;

    long floats() const { return products * (v.xi_stride + d.xi_stride + xi_sums); }
};

Job make_job(const ConvPlan& plan, int n, float* scratch) {
    const int m = winograd_outputs(plan);
    Job job{m,
            (m + 2) * (m + 2),
            TileGrid(plan.shape, m, n),
            find_weight_product(plan.tile_vectors),
            0,
            0,
            0,
            {},
            {},
            nullptr,
            0,
            0};
    const long width = job.tile.vectors * VL;
    job.blocks = static_cast<int>(ceil_div(plan.shape.cout, width));
    job.row = job.blocks * width;
    job.rows = round_up(plan.shape.cin, VL);
    const long tiles = static_cast<long>(plan.batch) * job.grid.per_image;
    const long fitting = max_of(least_tiles, chunk_floats / (job.products * (job.row + job.rows)));
    job.chunk = ceil_div(tiles, ceil_div(tiles, fitting));
    job.v = {scratch, spread(job.chunk * job.rows), VL, job.chunk * VL};
    job.d = {scratch + job.products * job.v.xi_stride, spread(job.chunk * job.row), VL, job.chunk * VL};
    job.sums = job.d.data + job.products * job.d.xi_stride;
    job.xi_sums = spread(job.rows * job.row);
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
    const long tile_rows = job.tile.rows, row_tiles = job.rows / tile_rows;
    const long spans = min_of(row_tiles, ceil_div(64, static_cast<long>(job.products) * job.blocks));
    parallel(job.products * job.blocks * spans, [&](long piece) {
        const long span = piece % spans, block = piece / spans % job.blocks, xi = piece / spans / job.blocks;
        const float* d = job.d.data + xi * job.d.xi_stride + block * job.tile.vectors * job.d.vector_stride;
        for (long i = row_tiles * span / spans * tile_rows; i < row_tiles * (span + 1) / spans * tile_rows;
             i += tile_rows)
            job.tile.run(
                job.v.data + xi * job.v.xi_stride + i / VL * job.v.vector_stride + i % VL, d, job.d.vector_stride,
                count, job.sums + xi * job.xi_sums + i * job.row + block * job.tile.vectors * VL, job.row, accumulate);
    });
}

template <int m>
void finish(const Job& job, const ConvShape& s, float* grad_weight) {
    using T = typename Winograd<m>::WeightAdjoint;
    parallel(s.cin, [&](long c) {
        for (int o = 0; o < s.cout; o += VL) {
            const Mask mask = first_lanes(s.cout - o);
            const float* u = job.sums + c * job.row + o;
            float* out = grad_weight + c * s.cout + o;
            const long tap = static_cast<long>(s.cin) * s.cout;
            transform_2d<T>([&](int i, int j) FOVEA_INLINE_LAMBDA { return load(u + (i * T::from + j) * job.xi_sums); },
                            [&](int i, int j, Vec v) FOVEA_INLINE_LAMBDA { store(out + (i * 3 + j) * tap, v, mask); });
        }
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
    for (long first = 0; first < job.grid.tiles; first += job.chunk) {
        const long count = min_of(job.chunk, job.grid.tiles - first);
        transform(job, first, count, input, grad_output);
        multiply(job, count, first > 0);
    }
    (job.outputs == 4 ? finish<4> : finish<2>)(job, plan.shape, grad_weight);
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
