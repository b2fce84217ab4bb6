#include "kernels/dot_bf16_weight_tile.h"

#include <utility>

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// As in tap_tile.cpp, every loop over `acc` is unrolled fully.
template <int R, int V>
__attribute__((noinline)) void tile(const PairWeightArgs& a) {
    Mask mask[V];
    FOVEA_UNROLL
    for (int j = 0; j < V; j++) mask[j] = first_lanes(a.columns - j * VL);
    Vec acc[R][V];
    FOVEA_UNROLL
    for (int i = 0; i < R; i++) FOVEA_UNROLL
    for (int j = 0; j < V; j++) acc[i][j] = a.accumulate ? load(a.out + i * a.out_row + j * VL, mask[j]) : Vec{};
    for (int n = 0; n < a.count[0]; n++)
        for (int d = 0; d < a.count[1]; d++)
            for (int h = 0; h < a.count[2]; h++) {
                const Pair* x = a.x + n * a.x_stride[0] + d * a.x_stride[1] + h * a.x_stride[2];
                const Pair* dy = a.dy + n * a.dy_stride[0] + d * a.dy_stride[1] + h * a.dy_stride[2];
                for (int w = 0; w < a.count[3]; w++, x += a.x_stride[3], dy += a.dy_stride[3]) {
                    VecPairs b[V];
                    FOVEA_UNROLL
                    for (int j = 0; j < V; j++) b[j] = load_pairs(dy + j * VL);
                    FOVEA_UNROLL
                    for (int i = 0; i < R; i++) {
                        const VecPairs value = broadcast_pair(x[i]);
                        FOVEA_UNROLL
                        for (int j = 0; j < V; j++) acc[i][j] = dot(acc[i][j], value, b[j]);
                    }
                }
            }
    FOVEA_UNROLL
    for (int i = 0; i < R; i++) FOVEA_UNROLL
    for (int j = 0; j < V; j++) store(a.out + i * a.out_row + j * VL, acc[i][j], mask[j]);
}

// Sums, a row of dy and a broadcast fit the registers.
constexpr bool many_registers = VECTOR_REGISTERS == 32;
constexpr int most_rows = many_registers ? 12 : 6, rows3 = 8;

template <int V, int... I>
PairWeightTile by_rows(int rows, std::integer_sequence<int, I...>) {
    static constexpr PairWeightTile list[] = {tile<I + 1, V>...};
    return list[rows - 1];
}

}  // namespace

int pair_weight_vectors(int columns) {
    int best = 1;
    for (int v = 2; v <= (many_registers ? 3 : 2); v++)
        if (round_up(columns, v * VL) <= round_up(columns, best * VL)) best = v;
    return best;
}

int pair_weight_rows(int vectors) {
    return vectors == 3 ? rows3 : vectors == 2 && !many_registers ? most_rows / 2 : most_rows;
}

PairWeightTile find_pair_weight_tile(int rows, int vectors) {
    if (vectors == 1) return by_rows<1>(rows, std::make_integer_sequence<int, most_rows>{});
    if (vectors == 2) return by_rows<2>(rows, std::make_integer_sequence<int, most_rows>{});
    return many_registers ? by_rows<3>(rows, std::make_integer_sequence<int, many_registers ? rows3 : 1>{}) : nullptr;
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
