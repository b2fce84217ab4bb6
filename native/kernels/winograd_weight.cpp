// Backward weight by the adjoint of the forward algorithm: with V = Bt x B and D = A dy At per tile, the products
//   dU[xi] = V[xi]^T D[xi]   and   dw = Gt dU G.
// Three ways to cut the work, by how many sums there are (bits depend on no thread in any of them):
// * few: a piece takes a range of tiles through everything in its own cache; the sums of all pieces are added in order.
// * more: all pieces transform a chunk of tiles, then split the (m + 2)^2 products, and so on; no sum is split.
// * more than transformed tiles: these are all kept, and a piece makes all products of a block of channels.
#include "kernels/partial_sums.h"
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
// Of a piece that takes its tiles through everything: sums and transformed tiles; the sums of all pieces.
constexpr long own_floats = (896 << 10) / 4, all_sums_floats = (8 << 20) / 4;
constexpr long most_pieces = 64, least_piece_tiles = 64, least_own_tiles = 16, most_own_tiles = 32;

enum class Cut { tiles, products, channels };

struct Job {
    int outputs, products;
    TileGrid grid;
    WeightProduct tile;
    long blocks;     // of output channels
    long rows, row;  // input and output channels, filled up to whole vectors and blocks
    long chunk;      // tiles whose transforms are in memory at once; from the capacity, so bits do not depend on n
    Matrices v, d;   // [xi][channels / VL][tile][VL]
    float* sums;     // [piece][xi][input channel][output channel]
    long xi_sums;
    Cut cut;
    long pieces;  // with sums of their own

    long tile_floats() const { return products * (v.xi_stride + d.xi_stride); }
    long sum_floats() const { return products * xi_sums; }
    long floats() const {
        return cut == Cut::tiles ? pieces * sum_floats() : tile_floats() + (cut == Cut::products ? sum_floats() : 0);
    }
    long group() const { return max_of<long>(VL, group_floats / (products * tile.vectors * VL) / VL * VL); }
    const float* v_at(long xi, long channel) const {
        return v.data + xi * v.xi_stride + channel / VL * v.vector_stride + channel % VL;
    }
    const float* d_at(long xi, long block) const {
        return d.data + xi * d.xi_stride + block * tile.vectors * d.vector_stride;
    }
    void place_tiles(float* data) {
        v = {data, spread(chunk * rows), VL, chunk * VL};
        d = {data + products * v.xi_stride, spread(chunk * row), VL, chunk * VL};
    }
};

Cut choose_cut(const ConvPlan& plan, const Job& job, long tiles) {
    if (winograd_has_few_tiles(plan.pass, plan.shape, tiles)) return Cut::channels;
    return winograd_has_few_sums(job.products * job.rows * job.row, tiles) ? Cut::tiles : Cut::products;
}

long choose_chunk(const Job& job, long tiles) {
    if (job.cut == Cut::channels) return tiles;
    const long per_tile = job.products * (job.row + job.rows);
    if (job.cut == Cut::tiles)
        return max_of(least_own_tiles, min_of(most_own_tiles, (own_floats - job.sum_floats()) / per_tile));
    const long fitting = max_of(least_tiles, chunk_floats / per_tile);
    return ceil_div(tiles, ceil_div(tiles, fitting));
}

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
    job.cut = choose_cut(plan, job, tiles);
    job.chunk = choose_chunk(job, tiles);
    job.pieces = min_of(min_of(most_pieces, all_sums_floats / job.sum_floats()), job.grid.tiles / least_piece_tiles);
    job.pieces = max_of(1L, job.pieces);
    job.place_tiles(scratch);
    job.sums = scratch + (job.cut == Cut::tiles ? 0 : job.tile_floats());
    return job;
}

// Tiles first .. first + count of the grid into the matrices.
template <class S>
void transform(const Job& job, long first, long count, const S* input, const S* grad_output) {
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

// A piece transforms some tiles at a time into its own scratch and adds their products to its own sums.
template <class S>
void multiply_own(Job job, long piece, const S* input, const S* grad_output) {
    job.place_tiles(thread_scratch(job.tile_floats()));
    float* sums = job.sums + piece * job.sum_floats();
    const long begin = job.grid.tiles * piece / job.pieces, end = job.grid.tiles * (piece + 1) / job.pieces;
    const long width = job.tile.vectors * VL;
    for (long first = begin; first < end; first += job.chunk) {
        const long count = min_of(job.chunk, end - first);
        transform_inputs(job.outputs, job.grid, input, first, count, job.v);
        transform_gradients(job.outputs, job.grid, grad_output, first, count, job.d);
        const long ahead = min_of(job.chunk, end - first - count);  // tiles of the next chunk
        for (int xi = 0; xi < job.products; xi++) {
            const long from = ahead * xi / job.products, some = ahead * (xi + 1) / job.products - from;
            const TileGrid& g = job.grid;
            prefetch_pixels(job.outputs, g, g.in, g.cin, first + count + from, some, input);
            prefetch_pixels(job.outputs, g, g.out, g.cout, first + count + from, some, grad_output);
            for (long block = 0; block < job.blocks; block++)
                for (long c = 0; c < job.rows; c += job.tile.rows)
                    job.tile.run(job.v_at(xi, c), job.d_at(xi, block), job.d.vector_stride, count,
                                 sums + xi * job.xi_sums + c * job.row + block * width, job.row, first > begin);
        }
    }
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

template <class S>
void run_winograd_weight(const ConvPlan& plan, int n, const S* input, const S* grad_output, float* grad_weight,
                         float* scratch) {
    const Job job = make_job(plan, n, scratch);
    if (job.cut == Cut::channels) {
        transform(job, 0, job.grid.tiles, input, grad_output);
        multiply_and_finish(job, plan.shape, grad_weight);
        return;
    }
    if (job.cut == Cut::tiles) {
        parallel(job.pieces, [&](long piece) { multiply_own(job, piece, input, grad_output); });
        if (job.pieces > 1) add_partial_sums(job.sums, job.sum_floats(), job.pieces, job.sums);
        finish_all(job, plan.shape, grad_weight);
        return;
    }
    for (long first = 0; first < job.grid.tiles; first += job.chunk) {
        const long count = min_of(job.chunk, job.grid.tiles - first);
        transform(job, first, count, input, grad_output);
        multiply(job, count, first > 0);
    }
    finish_all(job, plan.shape, grad_weight);
}

template void run_winograd_weight<float>(const ConvPlan&, int, const float*, const float*, float*, float*);
template void run_winograd_weight<bf16>(const ConvPlan&, int, const bf16*, const bf16*, float*, float*);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
