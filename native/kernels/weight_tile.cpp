#include "kernels/weight_tile.h"

#include <utility>

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// T taps, R rows, V vectors. As in tap_tile.cpp, every loop over `acc` must be unrolled fully, and `Half` means that of
// the second vector only the lower half is there.
template <int T, int R, int V, bool Ragged, bool Half = false>
__attribute__((noinline)) void weight_tile(const WeightTileArgs& a) {
    constexpr bool may_be_low = has_low_half && V == 2 && Ragged;
    if (may_be_low && !Half && a.columns <= VL + VL / 2) return weight_tile<T, R, V, Ragged, may_be_low>(a);
    Mask mask[V];
    FOVEA_UNROLL
    for (int j = 0; j < V; j++) mask[j] = first_lanes(a.columns - j * VL);
    Vec acc[T][R][V];
    FOVEA_UNROLL
    for (int t = 0; t < T; t++) FOVEA_UNROLL
    for (int i = 0; i < R; i++) FOVEA_UNROLL
    for (int j = 0; j < V; j++) {
        const float* out = a.out + t * a.out_tap + i * a.out_row + j * VL;
        acc[t][i][j] = !a.accumulate ? Vec{} : Ragged ? load(out, mask[j]) : load(out);
    }
    const char* next[2] = {a.next[0], a.next[1]};
    for (int n = 0; n < a.count[0]; n++)
        for (int d = 0; d < a.count[1]; d++)
            for (int h = 0; h < a.count[2]; h++) {
                const float* dy = a.dy + n * a.dy_stride[0] + d * a.dy_stride[1] + h * a.dy_stride[2];
                const float* first = a.x + n * a.x_stride[0] + d * a.x_stride[1] + h * a.x_stride[2];
                const float* x[T];
                FOVEA_UNROLL
                for (int t = 0; t < T; t++) x[t] = first + t * a.x_tap;
                for (int w = 0; w < a.count[3]; w++) {
                    if (next[0]) {
                        __builtin_prefetch(next[0], 0, 2);
                        __builtin_prefetch(next[1], 0, 2);
                        next[0] += a.next_step;
                        next[1] += a.next_step;
                    }
                    Vec b[V];
                    FOVEA_UNROLL
                    for (int j = 0; j < V; j++) b[j] = Ragged ? load(dy + j * VL, mask[j]) : load(dy + j * VL);
                    FOVEA_UNROLL
                    for (int t = 0; t < T; t++) FOVEA_UNROLL
                    for (int i = 0; i < R; i++) {
                        const Vec value = broadcast(x[t][i]);
                        FOVEA_UNROLL
                        for (int j = 0; j < V; j++)
                            acc[t][i][j] = Half && j > 0 ? multiply_add_low(value, b[j], acc[t][i][j])
                                                         : acc[t][i][j] + value * b[j];
                    }
                    dy += a.dy_stride[3];
                    FOVEA_UNROLL
                    for (int t = 0; t < T; t++) x[t] += a.x_stride[3];
                }
            }
    FOVEA_UNROLL
    for (int t = 0; t < T; t++) FOVEA_UNROLL
    for (int i = 0; i < R; i++) FOVEA_UNROLL
    for (int j = 0; j < V; j++) {
        float* out = a.out + t * a.out_tap + i * a.out_row + j * VL;
        if (Ragged)
            store(out, acc[t][i][j], mask[j]);
        else
            store(out, acc[t][i][j]);
    }
}

template <int V, bool Ragged, int... I>
WeightTile by_rows(int rows, std::integer_sequence<int, I...>) {
    static const WeightTile list[] = {weight_tile<1, I + 1, V, Ragged>...};
    return list[rows - 1];
}

template <int Rows, int V>
WeightTile pick(int rows, bool ragged) {
    const auto sequence = std::make_integer_sequence<int, Rows>{};
    return ragged ? by_rows<V, true>(rows, sequence) : by_rows<V, false>(rows, sequence);
}

template <int T, int R>
WeightTile pick_taps(bool ragged) {
    return ragged ? weight_tile<T, R, 1, true> : weight_tile<T, R, 1, false>;
}

// Accumulators, one row of dy and one broadcast fill the registers.
constexpr bool many_registers = VECTOR_REGISTERS == 32;
constexpr int rows1 = many_registers ? 24 : 12, rows2 = many_registers ? 14 : 6, rows3 = 8, rows4 = 6;

}  // namespace

int weight_tile_rows(int vectors) { return vectors == 1 ? rows1 : vectors == 2 ? rows2 : vectors == 3 ? rows3 : rows4; }

int weight_tile_vectors(int columns) {
    const int vectors = static_cast<int>(ceil_div(columns, VL));
    if (vectors == 1) return 1;
    if (!many_registers) return 2;
    int best = 4;
    for (const int v : {2, 3})  // the least empty lanes; of equals, the wider
        if (round_up(vectors, v) < round_up(vectors, best)) best = v;
    return best;
}

WeightTile find_weight_tile(int rows, int vectors, bool ragged) {
    switch (vectors) {
        case 1:
            return pick<rows1, 1>(rows, ragged);
        case 2:
            return pick<rows2, 2>(rows, ragged);
#if defined(__AVX512F__) || defined(__aarch64__)
        case 3:
            return pick<rows3, 3>(rows, ragged);
        default:
            return pick<rows4, 4>(rows, ragged);
#else
        default:
            return nullptr;
#endif
    }
}

WeightTile find_tap_weight_tile(int taps, int rows, bool ragged) {
    if (taps == 3 && rows == 3) return pick_taps<3, 3>(ragged);
    if (!many_registers) return nullptr;
    if (taps == 3 && rows == 6) return pick_taps<3, 6>(ragged);
    if (taps == 3 && rows == 9) return pick_taps<3, 9>(ragged);
    if (taps == 5 && rows == 5) return pick_taps<5, 5>(ragged);
    return nullptr;
}

void add_pointwise_products(const float* x, int cin, const float* dy, int cout, long pixels, float* out,
                            const Ahead<float>& ahead) {
    WeightTileArgs a{};
    for (int i = 0; i < 4; i++) a.count[i] = 1;
    a.count[3] = static_cast<int>(pixels);
    a.x_stride[3] = cin;
    a.dy_stride[3] = cout;
    a.out_row = cout;
    a.accumulate = true;
    const int width = weight_tile_vectors(cout) * VL, most = weight_tile_rows(weight_tile_vectors(cout));
    const int tiles = static_cast<int>(ceil_div(cin, most));
    a.next_step = ceil_div(ahead.count * static_cast<long>(sizeof(float)), tiles * ceil_div(cout, width) * pixels);
    for (int i = 0; i < 2; i++) a.next[i] = reinterpret_cast<const char*>(ahead.next[i]);
    for (int column = 0; column < cout; column += width) {
        a.columns = min_of(width, cout - column);
        a.dy = dy + column;
        for (int tile = 0; tile < tiles; tile++) {
            const int row = cin * tile / tiles, rows = cin * (tile + 1) / tiles - row;
            a.x = x + row;
            a.out = out + static_cast<long>(row) * cout + column;
            find_weight_tile(rows, static_cast<int>(ceil_div(a.columns, VL)), a.columns % VL != 0)(a);
            for (const char*& next : a.next) next += pixels * a.next_step;
        }
    }
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
