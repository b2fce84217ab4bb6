#include "kernels/dot_bf16_tile.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

enum class Form { bf16, float32, interleaved };

// As in tap_tile.cpp, every loop over `acc` is unrolled fully.
template <int P, int V>
FOVEA_INLINE void multiply(Vec (&acc)[P][V], const Pair* weight, const Pair (&value)[P]) {
    VecPairs b[V];
    FOVEA_UNROLL
    for (int j = 0; j < V; j++) b[j] = load_pairs(weight + j * VL);
    FOVEA_UNROLL
    for (int i = 0; i < P; i++) {
        const VecPairs a = broadcast_pair(value[i]);
        FOVEA_UNROLL
        for (int j = 0; j < V; j++) acc[i][j] = dot(acc[i][j], a, b[j]);
    }
}

template <class Out, int P, int V>
FOVEA_INLINE void write(const PairTileArgs& t, const Vec (&acc)[P][V]) {
    if (t.columns == V * VL && t.pixels == P) {
        FOVEA_UNROLL
        for (int i = 0; i < P; i++) FOVEA_UNROLL
        for (int j = 0; j < V; j++) store(static_cast<Out*>(t.out[i]) + t.column + j * VL, acc[i][j]);
        return;
    }
    FOVEA_UNROLL
    for (int i = 0; i < P; i++) {
        if (i < t.pixels) FOVEA_UNROLL
        for (int j = 0; j < V; j++)
            store(static_cast<Out*>(t.out[i]) + t.column + j * VL, acc[i][j], first_lanes(t.columns - j * VL));
    }
}

// The odd pixel at the end is paired with 0. Vectors without any column are not written: pixels lie close together.
template <int P, int V>
FOVEA_INLINE void write_interleaved(const PairTileArgs& t, const Vec (&acc)[P][V]) {
    const int vectors = static_cast<int>(min_of<long>(V, ceil_div(t.columns, VL)));
    if (t.pixels == P && vectors == V) {
        FOVEA_UNROLL
        for (int i = 0; i + 1 < P; i += 2) FOVEA_UNROLL
        for (int j = 0; j < V; j++)
            store_pairs(static_cast<Pair*>(t.out[i / 2]) + t.column + j * VL, interleave(acc[i][j], acc[i + 1][j]));
        return;
    }
    FOVEA_UNROLL
    for (int i = 0; i < P; i += 2) FOVEA_UNROLL
    for (int j = 0; j < V; j++)
        if (i < t.pixels && j < vectors)
            store_pairs(static_cast<Pair*>(t.out[i / 2]) + t.column + j * VL,
                        interleave(acc[i][j], i + 1 < t.pixels ? acc[(i + 1) % P][j] : Vec{}));
}

template <int P, int V>
FOVEA_INLINE void add_residual(const PairTileArgs& t, Vec (&acc)[P][V]) {
    FOVEA_UNROLL
    for (int i = 0; i < P; i++) {
        if (i < t.pixels) FOVEA_UNROLL
        for (int j = 0; j < V; j++)
            acc[i][j] += load(t.residual[i] + t.column + j * VL, first_lanes(t.columns - j * VL));
    }
}

template <int P, int V>
FOVEA_INLINE void clamp_all(const PairTileArgs& t, Vec (&acc)[P][V]) {
    const Vec low = broadcast(t.low), high = broadcast(t.high);
    FOVEA_UNROLL
    for (int i = 0; i < P; i++) FOVEA_UNROLL
    for (int j = 0; j < V; j++) acc[i][j] = at_most(at_least(acc[i][j], low), high);
}

template <Form form, int P, int V>
__attribute__((noinline)) void tile(const PairTileArgs& t) {
    Vec acc[P][V];
    FOVEA_UNROLL
    for (int j = 0; j < V; j++) {
        const Vec start = t.bias ? load(t.bias + t.column + j * VL, first_lanes(t.columns - j * VL)) : Vec{};
        FOVEA_UNROLL
        for (int i = 0; i < P; i++) acc[i][j] = start;
    }
    const long pairs = t.depth / 2, odd = t.depth % 2;
    for (int tap = 0; tap < t.taps; tap++) {
        const bf16* in[P];
        for (int i = 0; i < P; i++) in[i] = t.in[tap * P + i] + t.in_offset;
        const Pair* weight = t.panel + t.panel_tap[tap] * (pairs + odd) * (V * VL);
        for (long k = 0; k < pairs; k++, weight += V * VL) {
            Pair value[P];
            FOVEA_UNROLL
            for (int i = 0; i < P; i++) value[i] = pair_at(in[i] + 2 * k);
            multiply(acc, weight, value);
        }
        if (odd) {
            Pair value[P];
            FOVEA_UNROLL
            for (int i = 0; i < P; i++) value[i] = in[i][2 * pairs];
            multiply(acc, weight, value);
        }
    }
    if (t.clamp) clamp_all(t, acc);
    if (form == Form::interleaved) return write_interleaved(t, acc);
    if (t.residual) add_residual(t, acc);
    if (form == Form::float32)
        write<float>(t, acc);
    else
        write<bf16>(t, acc);
}

// Measured: with the sums and one row of weights in registers every tile of 8 or more sums runs at the peak. Eight
// pixels divide usual batches; a tile of one vector takes its broadcasts from memory.
#define FOVEA_TILE(P, V) {P, V, tile<Form::bf16, P, V>, tile<Form::float32, P, V>, tile<Form::interleaved, P, V>}
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int choices = 3;
const PairTile tiles[] = {FOVEA_TILE(8, 3), FOVEA_TILE(8, 2), FOVEA_TILE(8, 1), FOVEA_TILE(1, 4)};
#else
constexpr int choices = 2;
const PairTile tiles[] = {FOVEA_TILE(4, 2), FOVEA_TILE(8, 1), FOVEA_TILE(1, 4)};
#endif
#undef FOVEA_TILE

constexpr long second_cache_bytes = 768 << 10;  // of the second level, what one block of weights may take

}  // namespace

PairTile choose_pair_tile(int columns, long positions, long depth) {
    if (positions == 1) return tiles[choices];
    int best = 0;
    double best_cost = 1e30;
    for (int i = 0; i < choices; i++) {
        const long width = static_cast<long>(tiles[i].vectors) * VL;
        double cost = static_cast<double>(round_up(columns, width)) * (1 + 0.01 * i);
        if (2 * depth * width > second_cache_bytes) cost *= 1.2;  // every tile of pixels would fetch it again
        if (cost < best_cost) {
            best = i;
            best_cost = cost;
        }
    }
    return tiles[best];
}

PairTile find_pair_tile(int pixels, int vectors) {
    for (const PairTile& t : tiles)
        if (t.pixels == pixels && t.vectors == vectors) return t;
    return tiles[0];
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
