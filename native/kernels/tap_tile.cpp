#include "kernels/tap_tile.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// Every loop over `acc` is fully unrolled: one index known only at run time would force the accumulators into memory.
// Half: of the second vector of columns only the lower half is there (24 columns).
template <int P, int V, bool Half = false>
__attribute__((noinline)) void tile(const TileArgs& t) {
    if (has_low_half && V == 2 && !Half && t.columns <= VL + VL / 2) return tile<P, V, (has_low_half && V == 2)>(t);
    const bool full = t.columns == V * VL && t.pixels == P;
    Mask mask[V];
    FOVEA_UNROLL
    for (int j = 0; j < V; j++) mask[j] = first_lanes(t.columns - j * VL);
    Vec acc[P][V];
    FOVEA_UNROLL
    for (int j = 0; j < V; j++) {
        const Vec start = t.bias ? load(t.bias + t.column + j * VL, mask[j]) : Vec{};
        FOVEA_UNROLL
        for (int i = 0; i < P; i++) acc[i][j] = start;
    }
    const long depth = t.depth;
    for (int tap = 0; tap < t.taps; tap++) {
        const float* in[P];
        for (int i = 0; i < P; i++) in[i] = t.in[tap * P + i] + t.in_offset;
        const float* weight = t.panel + t.panel_tap[tap] * depth * (V * VL);
        for (long k = 0; k < depth; k++) {
            Vec b[V];
            FOVEA_UNROLL
            for (int j = 0; j < V; j++) b[j] = load(weight + j * VL);
            weight += V * VL;
            FOVEA_UNROLL
            for (int i = 0; i < P; i++) {
                const Vec a = broadcast(in[i][k]);
                FOVEA_UNROLL
                for (int j = 0; j < V; j++)
                    acc[i][j] = Half && j > 0 ? multiply_add_low(a, b[j], acc[i][j]) : acc[i][j] + a * b[j];
            }
        }
    }
    const long column = t.column;
    if (t.accumulate) {
        FOVEA_UNROLL
        for (int i = 0; i < P; i++) FOVEA_UNROLL
        for (int j = 0; j < V; j++) {
            if (full)
                acc[i][j] += load(t.out[i] + column + j * VL);
            else if (i < t.pixels)
                acc[i][j] += load(t.out[i] + column + j * VL, mask[j]);
        }
    }
    if (t.clamp) {
        const Vec low = broadcast(t.low), high = broadcast(t.high);
        FOVEA_UNROLL
        for (int i = 0; i < P; i++) FOVEA_UNROLL
        for (int j = 0; j < V; j++) acc[i][j] = at_most(at_least(acc[i][j], low), high);
    }
    if (full) {
        FOVEA_UNROLL
        for (int i = 0; i < P; i++) FOVEA_UNROLL
        for (int j = 0; j < V; j++) store(t.out[i] + column + j * VL, acc[i][j]);
    } else {
        FOVEA_UNROLL
        for (int i = 0; i < P; i++) {
            if (i < t.pixels) FOVEA_UNROLL
            for (int j = 0; j < V; j++) store(t.out[i] + column + j * VL, acc[i][j], mask[j]);
        }
    }
}

// Accumulators, one row of weights and one broadcast must fit the registers. Measured: any tile with at least 8
// accumulators and no more loads than multiplications runs at the peak; one vector per pixel loads more than it
// multiplies.
struct Candidate {
    Tile tile;
    double cost;  // per multiplied vector, relative
};
#define FOVEA_TILE(P, V, cost) {{P, V, tile<P, V>}, cost}
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int pixel_tiles = 6, image_tiles = 3, all_tiles = 10;
const Candidate candidates[all_tiles] = {FOVEA_TILE(6, 4, 1),     FOVEA_TILE(8, 3, 1),    FOVEA_TILE(12, 2, 1.02),
                                         FOVEA_TILE(12, 1, 1.12), FOVEA_TILE(7, 3, 1.02), FOVEA_TILE(10, 2, 1.03),
                                         FOVEA_TILE(8, 3, 1),     FOVEA_TILE(8, 2, 1),    FOVEA_TILE(12, 1, 1.12),
                                         FOVEA_TILE(1, 4, 1)};
#else
constexpr int pixel_tiles = 2, image_tiles = 2, all_tiles = 5;
const Candidate candidates[all_tiles] = {FOVEA_TILE(6, 2, 1), FOVEA_TILE(12, 1, 1.12), FOVEA_TILE(6, 2, 1),
                                         FOVEA_TILE(12, 1, 1.12), FOVEA_TILE(1, 4, 1)};
#endif
#undef FOVEA_TILE

}  // namespace

Tile choose_tile(int columns, long positions, bool images) {
    if (positions == 1) return candidates[all_tiles - 1].tile;
    const Candidate* list = images ? candidates + pixel_tiles : candidates;
    const int count = images ? image_tiles : pixel_tiles;
    int best = 0;
    double best_cost = 1e30;
    for (int i = 0; i < count; i++) {
        const long width = list[i].tile.vectors * VL;
        double cost = ceil_div(columns, width) * width * list[i].cost;
        if (!images) cost *= static_cast<double>(round_up(positions, list[i].tile.pixels));
        if (cost < best_cost) {
            best = i;
            best_cost = cost;
        }
    }
    return list[best].tile;
}

Tile find_tile(int pixels, int vectors) {
    for (const Candidate& c : candidates)
        if (c.tile.pixels == pixels && c.tile.vectors == vectors) return c.tile;
    return candidates[0].tile;
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
