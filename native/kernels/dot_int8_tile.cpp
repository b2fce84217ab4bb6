#include "kernels/dot_int8_tile.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// As in tap_tile.cpp every loop over the sums is unrolled: they must stay in registers.
// plain: all columns, and no clamp.
template <bool plain, int P, int V>
FOVEA_INLINE void store_floats(const Int8TileArgs& t, const Vec (&y)[P][V]) {
    const Vec low = broadcast(t.epilogue->low), high = broadcast(t.epilogue->high);
    FOVEA_UNROLL
    for (int i = 0; i < P; i++) {
        if (i < t.pixels) FOVEA_UNROLL
        for (int j = 0; j < V; j++) {
            float* to = t.out[i] + t.column + j * VL;
            if constexpr (plain)
                store(to, y[i][j]);
            else
                store(to, at_most(at_least(y[i][j], low), high), first_lanes(t.columns - j * VL));
        }
    }
}

// whole: all columns are there, so no vector is partial.
template <bool whole, int P, int V>
FOVEA_INLINE void store_all(const Int8TileArgs& t, Vec (&y)[P][V]) {
    const Int8Epilogue& e = *t.epilogue;
    long lanes[V];
    FOVEA_UNROLL
    for (int j = 0; j < V; j++) lanes[j] = whole ? VL : t.columns - j * VL;
    if (e.residual) {
        const VecInt zero = same_int(e.residual_zero);
        const Vec factor = broadcast(e.residual_factor);
        FOVEA_UNROLL
        for (int i = 0; i < P; i++) {
            const uint8_t* from = reinterpret_cast<const uint8_t*>(t.out[i]) + e.residual_distance + t.column;
            if (i < t.pixels) FOVEA_UNROLL
            for (int j = 0; j < V; j++)
                y[i][j] +=
                    to_float((whole ? load_bytes(from + j * VL) : load_bytes(from + j * VL, lanes[j])) - zero) * factor;
        }
    }
    const Rounding r = rounding(e.low, e.high, e.zero);
    FOVEA_UNROLL
    for (int i = 0; i < P; i++) {
        uint8_t* out = reinterpret_cast<uint8_t*>(t.out[i]) + t.column;
        if constexpr (whole) {
            if (i < t.pixels) store_rounded(out, y[i], r);
            continue;
        }
        if (i < t.pixels) FOVEA_UNROLL
        for (int j = 0; j < V; j++) store_bytes(out + j * VL, to_byte_lanes(y[i][j], r), lanes[j]);
    }
}

template <int P, int V>
__attribute__((noinline)) void tile(const Int8TileArgs& t) {
    const Int8Epilogue& e = *t.epilogue;
    VecInt sum[P][V];
    FOVEA_UNROLL
    for (int j = 0; j < V; j++) {
        const VecInt start = load_int(e.bias + t.column + j * VL, first_lanes(t.columns - j * VL));
        FOVEA_UNROLL
        for (int i = 0; i < P; i++) sum[i][j] = start;
    }
    const long depth = t.depth;
    for (int tap = 0; tap < t.taps; tap++) {
        const int32_t* in[P];
        for (int i = 0; i < P; i++) in[i] = reinterpret_cast<const int32_t*>(t.in[tap * P + i] + t.in_offset);
        const int8_t* weight = t.panel + t.panel_tap[tap] * depth * (4 * V * VL);
        for (long k = 0; k < depth; k++) {
            Weights w[V];
            FOVEA_UNROLL
            for (int j = 0; j < V; j++) w[j] = weights_of(load_int(weight + 4 * j * VL));
            weight += 4 * V * VL;
            FOVEA_UNROLL
            for (int i = 0; i < P; i++) {
                const Pixels x = pixels_of(same_int(in[i][k]));
                FOVEA_UNROLL
                for (int j = 0; j < V; j++) sum[i][j] = dot(sum[i][j], x, w[j]);
            }
        }
    }
    Vec y[P][V];
    FOVEA_UNROLL
    for (int j = 0; j < V; j++) {
        const Vec factor = load(e.factor + t.column + j * VL, first_lanes(t.columns - j * VL));
        FOVEA_UNROLL
        for (int i = 0; i < P; i++) y[i][j] = to_float(sum[i][j]) * factor;
    }
    const bool whole = t.columns == V * VL;
    if (e.float_output && whole && e.low == -__builtin_inff() && e.high == __builtin_inff())
        store_floats<true>(t, y);
    else if (e.float_output)
        store_floats<false>(t, y);
    else if (whole)
        store_all<true>(t, y);
    else
        store_all<false>(t, y);
}

template <int P>
Int8Tile with_pixels(int vectors) {
    constexpr bool wide = VECTOR_REGISTERS == 32 && P <= 6, middle = VECTOR_REGISTERS == 32 && P <= 8;
    if constexpr (wide || P == 1)
        if (vectors == 4) return tile<P, 4>;
    if constexpr (middle || P == 1)
        if (vectors == 3) return tile<P, 3>;
    if constexpr (VECTOR_REGISTERS == 32 || P <= 4)
        if (vectors == 2) return tile<P, 2>;
    return tile<P, 1>;
}

}  // namespace

Int8Blocks int8_blocks(int columns) {
    Int8Blocks best{static_cast<int>(ceil_div(columns, VL)), 1, VECTOR_REGISTERS == 32 ? 12 : 6};
    // A block of v vectors costs, for every pixel and word, v products, one broadcast and its share of v loads.
    const int pixels[] = {0, best.pixels, VECTOR_REGISTERS == 32 ? 12 : 4, 8, 6};
    double best_cost = 1e30;
    for (int v = 1; v <= (VECTOR_REGISTERS == 32 ? 4 : 2); v++) {
        Int8Blocks b{best.total, v, pixels[v]};
        double cost = 0;
        for (int block = 0; block < b.count(); block++) cost += b.width(block) * (1 + 1.0 / b.pixels) + 1;
        if (cost > best_cost) continue;
        best = b;
        best_cost = cost;
    }
    return best;
}

int int8_tile_pixels(const Int8Blocks& blocks, long positions, bool images) {
    if (positions == 1) return 1;
    if (images && VECTOR_REGISTERS == 32) return blocks.vectors == 4 ? 4 : 8;
    return blocks.pixels;
}

Int8Tile int8_tile(int pixels, int vectors) {
    switch (pixels) {
        case 1:
            return with_pixels<1>(vectors);
        case 4:
            return with_pixels<4>(vectors);
        case 6:
            return with_pixels<6>(vectors);
        case 8:
            return with_pixels<8>(vectors);
        default:
            return with_pixels<12>(vectors);
    }
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
