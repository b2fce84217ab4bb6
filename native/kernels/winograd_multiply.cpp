#include "kernels/winograd_multiply.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// As in tap_tile.cpp, every loop over `acc` is unrolled, so that it stays in registers.
template <int P, int V>
__attribute__((noinline)) void product(const float* in, long in_row, long rows, long depth, const float* panel,
                                       float* out, long out_row, bool accumulate) {
    for (long r = 0; r < rows; r += P, in += P * in_row, out += P * out_row) {
        Vec acc[P][V];
        FOVEA_UNROLL
        for (int i = 0; i < P; i++) FOVEA_UNROLL
        for (int j = 0; j < V; j++) acc[i][j] = Vec{};
        const float* row[P];
        for (int i = 0; i < P; i++) row[i] = in + i * in_row;
        const float* weight = panel;
        for (long k = 0; k < depth; k++, weight += V * VL) {
            Vec b[V];
            FOVEA_UNROLL
            for (int j = 0; j < V; j++) b[j] = load(weight + j * VL);
            FOVEA_UNROLL
            for (int i = 0; i < P; i++) {
                const Vec a = broadcast(row[i][k]);
                FOVEA_UNROLL
                for (int j = 0; j < V; j++) acc[i][j] += a * b[j];
            }
        }
        if (accumulate) {
            FOVEA_UNROLL
            for (int i = 0; i < P; i++) FOVEA_UNROLL
            for (int j = 0; j < V; j++) acc[i][j] += load(out + i * out_row + j * VL);
        }
        FOVEA_UNROLL
        for (int i = 0; i < P; i++) FOVEA_UNROLL
        for (int j = 0; j < V; j++) store(out + i * out_row + j * VL, acc[i][j]);
    }
}

// A sum begins at 0 and is added to `out` at its end: the sums of many calls round less than one long sum would.
template <int R, int V>
__attribute__((noinline)) void weight_product(const float* v, const float* d, long d_vector, long tiles, float* out,
                                              long out_row, bool accumulate) {
    Vec acc[R][V];
    FOVEA_UNROLL
    for (int i = 0; i < R; i++) FOVEA_UNROLL
    for (int j = 0; j < V; j++) acc[i][j] = Vec{};
    for (long t = 0; t < tiles; t++, v += VL, d += VL) {
        Vec b[V];
        FOVEA_UNROLL
        for (int j = 0; j < V; j++) b[j] = load(d + j * d_vector);
        FOVEA_UNROLL
        for (int i = 0; i < R; i++) {
            const Vec a = broadcast(v[i]);
            FOVEA_UNROLL
            for (int j = 0; j < V; j++) acc[i][j] += a * b[j];
        }
    }
    if (accumulate) {
        FOVEA_UNROLL
        for (int i = 0; i < R; i++) FOVEA_UNROLL
        for (int j = 0; j < V; j++) acc[i][j] += load(out + i * out_row + j * VL);
    }
    FOVEA_UNROLL
    for (int i = 0; i < R; i++) FOVEA_UNROLL
    for (int j = 0; j < V; j++) store(out + i * out_row + j * VL, acc[i][j]);
}

// Sizes as in tap_tile.cpp; a weight product's rows divide VL, as v is read VL channels at a time.
#if defined(__AVX512F__) || defined(__aarch64__)
const ProductTile product_tiles[] = {
    {6, 4, product<6, 4>}, {8, 3, product<8, 3>}, {12, 2, product<12, 2>}, {12, 1, product<12, 1>}};
constexpr int weight_rows = VL < 8 ? VL : 8;
const WeightProduct weight_products[] = {{weight_rows, 3, weight_product<weight_rows, 3>},
                                         {weight_rows, 2, weight_product<weight_rows, 2>},
                                         {VL, 1, weight_product<VL, 1>}};
#else
const ProductTile product_tiles[] = {{6, 2, product<6, 2>}, {12, 1, product<12, 1>}};
constexpr int weight_rows = 4;
const WeightProduct weight_products[] = {{weight_rows, 3, weight_product<weight_rows, 3>},
                                         {weight_rows, 2, weight_product<weight_rows, 2>}};
#endif

}  // namespace

ProductTile choose_product_tile(long rows, int columns) {
    const auto area = [=](const ProductTile& tile) {
        return round_up(rows, tile.rows) * round_up(columns, tile.vectors * VL);
    };
    const ProductTile* best = product_tiles;
    for (const ProductTile& tile : product_tiles)
        if (area(tile) < area(*best)) best = &tile;
    return *best;
}

ProductTile find_product_tile(int rows, int vectors) {
    for (const ProductTile& tile : product_tiles)
        if (tile.rows == rows && tile.vectors == vectors) return tile;
    return product_tiles[0];
}

WeightProduct choose_weight_product(int columns) {
    const WeightProduct* best = weight_products;
    for (const WeightProduct& tile : weight_products)
        if (round_up(columns, tile.vectors * VL) < round_up(columns, best->vectors * VL)) best = &tile;
    return *best;
}

WeightProduct find_weight_product(int vectors) {
    for (const WeightProduct& tile : weight_products)
        if (tile.vectors == vectors) return tile;
    return weight_products[0];
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
