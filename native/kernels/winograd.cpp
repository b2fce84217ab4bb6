// Forward, and backward data as the forward of the mirrored shape.
#include "kernels/winograd.h"

#include "kernels/tap_conv.h"
#include "kernels/winograd_basis.h"
#include "kernels/winograd_multiply.h"
#include "kernels/winograd_tiles.h"
#include "runtime/memory.h"
#include "runtime/pool.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// Transformed weights: [xi][block of columns][depth][width].
struct WeightLayout {
    int width, blocks;
    long depth, block_floats, xi_stride;

    WeightLayout(const ConvShape& s, int vectors)
        : width(vectors * VL),
          blocks(static_cast<int>(ceil_div(s.cout, width))),
          depth(s.cin),
          block_floats(depth * width),
          xi_stride(spread(blocks * block_floats)) {}
};

// VL x VL weights of one tap, input channels from k, output channels from column; 0 beyond the last ones.
void load_block(const ConvShape& s, bool transposed, const float* weight, int tap, long k, long column, float* out) {
    const long rows = min_of<long>(VL, s.cin - k), columns = min_of<long>(VL, s.cout - column);
    if (!transposed) {
        const Mask mask = first_lanes(columns);
        const float* in = weight + (tap * static_cast<long>(s.cin) + k) * s.cout + column;
        for (long i = 0; i < rows; i++) store(out + i * VL, load(in + i * s.cout, mask));
        return;
    }
    // The weights lie as [tap][what is now the output channel][what is now the input channel], flipped.
    const float* in = weight + ((8 - tap) * static_cast<long>(s.cout) + column) * s.cin + k;
    for (long i = 0; i < rows; i++)
        for (long j = 0; j < VL; j++) out[i * VL + j] = j < columns ? in[j * s.cin + i] : 0.0f;
}

template <int m>
void pack_blocks(const ConvShape& s, bool transposed, const WeightLayout& layout, const float* weight, float* packed) {
    using T = typename Winograd<m>::Weight;
    const long depths = ceil_div(layout.depth, VL), columns = static_cast<long>(layout.blocks) * layout.width / VL;
    parallel(depths * columns, [&](long item) {
        const long k = item % depths * VL, column = item / depths * VL;
        float block[9][VL * VL];
        for (int tap = 0; tap < 9; tap++) load_block(s, transposed, weight, tap, k, column, block[tap]);
        float* out = packed + column / layout.width * layout.block_floats + k * layout.width + column % layout.width;
        const long rows = min_of<long>(VL, layout.depth - k);
        for (long i = 0; i < rows; i++, out += layout.width)
            transform_2d<T>([&](int y, int x) FOVEA_INLINE_LAMBDA { return load(block[y * 3 + x] + i * VL); },
                            [&](int y, int x, Vec v)
                                FOVEA_INLINE_LAMBDA { store(out + (y * T::to + x) * layout.xi_stride, v); });
    });
}

struct Job {
    int outputs, products;
    TileGrid grid;
    WeightLayout weights;
    ProductTile tile;
    const float *from, *packed;
    float* to;
    const Epilogue* epilogue;

    Matrices inputs(float* data, long rows) const {
        const long row = round_up(grid.cin, VL);
        return {data, spread(rows * row), row, VL};
    }
    Matrices results(float* data, long rows) const {
        const long row = static_cast<long>(weights.blocks) * weights.width;
        return {data, spread(rows * row), row, VL};
    }
    // Both for chunks of `rows` tiles.
    long weight_floats() const { return products * weights.xi_stride; }
    long input_floats(long rows) const { return products * inputs(nullptr, rows).xi_stride; }
    long result_floats(long rows) const { return products * results(nullptr, rows).xi_stride; }

    void multiply(int xi, int block, long rows, const Matrices& in, const Matrices& out) const {
        tile.run(in.data + xi * in.xi_stride, in.tile_stride, rows, weights.depth,
                 packed + xi * weights.xi_stride + block * weights.block_floats,
                 out.data + xi * out.xi_stride + block * weights.width, out.tile_stride);
    }
};

Job make_job(const ConvPlan& plan, const ConvShape& shape, int n) {
    const int m = winograd_outputs(plan);
    return {m,
            (m + 2) * (m + 2),
            TileGrid(shape, m, n),
            WeightLayout(shape, plan.tile_vectors),
            find_product_tile(plan.tile_pixels, plan.tile_vectors),
            nullptr,
            nullptr,
            nullptr,
            nullptr};
}

ConvShape forward_shape(const ConvPlan& plan) {
    return plan.pass == ConvPass::backward_data ? mirrored(plan.shape) : plan.shape;
}

// Tiles of a chunk that one piece takes through all stages: few enough to stay in its second-level cache with the
// weights passing by, and enough to make that stream slow (4 bytes per tile and multiply-add of a lane).
long chunk_rows(const Job& job) {
    const long chunk_floats = (512 << 10) / 4, resident_floats = (256 << 10) / 4, tile = job.tile.rows;
    const long per_tile = (job.input_floats(1024) + job.result_floats(1024)) / 1024;
    const double macs = static_cast<double>(job.grid.tiles) * job.weight_floats();
    const long pieces = min_of(piece_count(macs), ceil_div(job.grid.tiles, tile));
    const long least = job.weight_floats() > resident_floats ? 24 : tile;
    const long most = max_of(least, chunk_floats / per_tile);
    return round_up(max_of(least, min_of(most, ceil_div(job.grid.tiles, pieces))), tile);
}

// With more weights than elements of the tiles it is better to read each weight once.
bool stages_pay(const Job& job) {
    const long rows = round_up(job.grid.tiles, job.tile.rows);
    return job.weight_floats() > job.input_floats(rows) + job.result_floats(rows);
}

// Each piece takes a chunk of tiles through all stages in scratch of its own.
void run_chunks(const Job& job) {
    const long rows = chunk_rows(job), chunks = ceil_div(job.grid.tiles, rows);
    parallel(chunks, [&](long chunk) {
        float* own = thread_scratch(job.input_floats(rows) + job.result_floats(rows));
        const Matrices in = job.inputs(own, rows), out = job.results(own + job.input_floats(rows), rows);
        const long first = chunk * rows, count = min_of(rows, job.grid.tiles - first);
        transform_inputs(job.outputs, job.grid, job.from, first, count, in);
        for (int xi = 0; xi < job.products; xi++)
            for (int block = 0; block < job.weights.blocks; block++)
                job.multiply(xi, block, round_up(count, job.tile.rows), in, out);
        transform_products(job.outputs, job.grid, out, first, count, job.to, *job.epilogue);
    });
}

// body(first, count, matrices from tile `first` on) for all tiles, in pieces of some 16384 elements.
template <class Body>
void over_tiles(const Job& job, const Matrices& matrices, int channels, const Body& body) {
    const long tiles = job.grid.tiles, grain = max_of(1L, 16384L / (job.products * channels));
    parallel(ceil_div(tiles, grain), [&](long piece) {
        const long first = piece * grain;
        Matrices part = matrices;
        part.data += first * matrices.tile_stride;
        body(first, min_of(grain, tiles - first), part);
    });
}

// Stage after stage for all tiles: each weight is read once.
void run_stages(const Job& job, float* scratch) {
    const long rows = round_up(job.grid.tiles, job.tile.rows);
    const Matrices in = job.inputs(scratch, rows), out = job.results(scratch + job.input_floats(rows), rows);
    over_tiles(job, in, job.grid.cin, [&](long first, long count, const Matrices& part) {
        transform_inputs(job.outputs, job.grid, job.from, first, count, part);
    });
    const int blocks = job.weights.blocks;
    parallel(static_cast<long>(job.products) * blocks, [&](long piece) {
        job.multiply(static_cast<int>(piece / blocks), static_cast<int>(piece % blocks), rows, in, out);
    });
    over_tiles(job, out, job.grid.cout, [&](long first, long count, const Matrices& part) {
        transform_products(job.outputs, job.grid, part, first, count, job.to, *job.epilogue);
    });
}

}  // namespace

void plan_winograd(ConvPlan& plan, int outputs) {
    plan.algorithm = outputs == 4 ? ConvAlgorithm::winograd4 : ConvAlgorithm::winograd2;
    if (plan.pass == ConvPass::backward_weight) return plan_winograd_weight(plan);
    const ConvShape shape = forward_shape(plan);
    const ProductTile tile = choose_product_tile(shape.cout);
    plan.tile_pixels = tile.rows;
    plan.tile_vectors = tile.vectors;
    const Job job = make_job(plan, shape, plan.batch);
    plan.packed_floats = static_cast<size_t>(job.weight_floats());
    const long rows = round_up(job.grid.tiles, tile.rows);
    plan.scratch_floats = stages_pay(job) ? static_cast<size_t>(job.input_floats(rows) + job.result_floats(rows)) : 0;
}

void pack_winograd(const ConvPlan& plan, const float* weight, float* packed) {
    const ConvShape shape = forward_shape(plan);
    const auto pack = winograd_outputs(plan) == 4 ? pack_blocks<4> : pack_blocks<2>;
    pack(shape, plan.pass == ConvPass::backward_data, WeightLayout(shape, plan.tile_vectors), weight, packed);
}

void run_winograd(const ConvPlan& plan, int n, const float* from, const float* packed, float* to, float* scratch,
                  const Epilogue& epilogue) {
    const ConvShape shape = forward_shape(plan);
    Job job = make_job(plan, shape, n);
    job.from = from;
    job.packed = packed;
    job.to = to;
    job.epilogue = &epilogue;
    if (plan.scratch_floats)
        run_stages(job, scratch);
    else
        run_chunks(job);
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
