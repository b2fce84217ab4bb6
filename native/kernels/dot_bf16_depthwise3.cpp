#include "kernels/dot_bf16_depthwise3.h"

#include <utility>

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr int block_pairs = 4;                         // of outputs, side by side
constexpr int vectors_packed = 13;                     // of one vector of channels
enum Weights { behind, ahead, first, last, weights };  // (0, w0), (w1, w2), (w0, w1), (w2, 0)

// Stride 1: P pairs of outputs in each of R rows. Every pair of inputs is loaded once for all of them.
//   out[2 i] = (0, w0) in[i - 1] + (w1, w2) in[i],  out[2 i + 1] = (w0, w1) in[i] + (w2, 0) in[i + 1]
template <int P, int R>
FOVEA_INLINE void sums_of(const PairDepthwise& r, long at, const Pair* packed, Vec (&acc)[R][2 * P]) {
    FOVEA_UNROLL
    for (int k = 0; k < 3 + R - 1; k++) {
        const Pair* in = r.in[k] + at - r.channels;
        FOVEA_UNROLL
        for (int c = 0; c < P + 2; c++) {
            const VecPairs v = load_pairs(in + static_cast<long>(c) * r.channels);
            FOVEA_UNROLL
            for (int row = 0; row < R; row++) {
                if (k < row || k > row + 2) continue;
                const Pair* w = packed + (k - row) * weights * VL;
                if (c < P) acc[row][2 * c] = dot(acc[row][2 * c], v, load_pairs(w + behind * VL));
                if (c > 0 && c <= P) {
                    acc[row][2 * c - 2] = dot(acc[row][2 * c - 2], v, load_pairs(w + ahead * VL));
                    acc[row][2 * c - 1] = dot(acc[row][2 * c - 1], v, load_pairs(w + first * VL));
                }
                if (c > 1) acc[row][2 * c - 3] = dot(acc[row][2 * c - 3], v, load_pairs(w + last * VL));
            }
        }
    }
}

// Stride 2: out[i] = (0, w0) in[i - 1] + (w1, w2) in[i]
template <int P>
FOVEA_INLINE void strided_sums_of(const PairDepthwise& r, long at, const Pair* packed, Vec (&acc)[1][2 * P]) {
    FOVEA_UNROLL
    for (int k = 0; k < 3; k++) {
        const Pair* in = r.in[k] + at - r.channels;
        const Pair* w = packed + k * weights * VL;
        FOVEA_UNROLL
        for (int c = 0; c <= 2 * P; c++) {
            const VecPairs v = load_pairs(in + static_cast<long>(c) * r.channels);
            if (c < 2 * P) acc[0][c] = dot(acc[0][c], v, load_pairs(w + behind * VL));
            if (c > 0) acc[0][c - 1] = dot(acc[0][c - 1], v, load_pairs(w + ahead * VL));
        }
    }
}

// 2 P outputs of R rows from x on, of which the last may not exist.
template <int P, int R, int Step>
void block(const PairDepthwise& r, int x) {
    const bool whole = x + 2 * P <= r.out_width;
    const long at = static_cast<long>(Step == 1 ? x / 2 : x) * r.channels, to = static_cast<long>(x) * r.channels;
    const Pair* packed = r.packed;
    for (long channel = 0; channel < r.channels; channel += VL, packed += vectors_packed * VL) {
        Vec acc[R][2 * P];
        const Vec start = reinterpret_cast<Vec>(load_pairs(packed));
        FOVEA_UNROLL
        for (int row = 0; row < R; row++) FOVEA_UNROLL
        for (int i = 0; i < 2 * P; i++) acc[row][i] = start;
        if constexpr (Step == 1)
            sums_of<P, R>(r, at + channel, packed + VL, acc);
        else
            strided_sums_of<P>(r, at + channel, packed + VL, acc);
        if (r.clamp) {
            const Vec low = broadcast(r.low), high = broadcast(r.high);
            FOVEA_UNROLL
            for (int row = 0; row < R; row++) FOVEA_UNROLL
            for (int i = 0; i < 2 * P; i++) acc[row][i] = at_most(at_least(acc[row][i], low), high);
        }
        FOVEA_UNROLL
        for (int row = 0; row < R; row++) {
            bf16* out = r.out[row] + to + channel;
            FOVEA_UNROLL
            for (int i = 0; i < 2 * P; i++)
                if (i < 2 * P - 1 || whole) store(out + static_cast<long>(i) * r.channels, acc[row][i]);
        }
    }
}

using Block = void (*)(const PairDepthwise& r, int x);

template <int R, int Step, int... I>
Block block_of(int pairs, std::integer_sequence<int, I...>) {
    static constexpr Block list[] = {block<I + 1, R, Step>...};
    return list[pairs - 1];
}
using Sizes = std::make_integer_sequence<int, block_pairs>;

}  // namespace

void pack_depthwise3(const float* weight, const float* bias, int channels, Pair* packed) {
    for (int channel = 0; channel < channels; channel += VL) {
        const Mask mask = first_lanes(channels - channel);
        const Vec none = {};
        store_pairs(packed, reinterpret_cast<VecPairs>(bias ? load(bias + channel, mask) : none));
        packed += VL;
        for (int k = 0; k < 3; k++, packed += weights * VL) {
            Vec w[3];
            for (int i = 0; i < 3; i++) w[i] = load(weight + (3L * k + i) * channels + channel, mask);
            store_pairs(packed + behind * VL, interleave(none, w[0]));
            store_pairs(packed + ahead * VL, interleave(w[1], w[2]));
            store_pairs(packed + first * VL, interleave(w[0], w[1]));
            store_pairs(packed + last * VL, interleave(w[2], none));
        }
    }
}

void depthwise3_pairs_row(const PairDepthwise& r) {
    const int pairs = static_cast<int>(ceil_div(r.out_width, 2)),
              blocks = static_cast<int>(ceil_div(pairs, block_pairs));
    for (int i = 0; i < blocks; i++) {
        const int begin = static_cast<int>(static_cast<long>(pairs) * i / blocks);
        const int count = static_cast<int>(static_cast<long>(pairs) * (i + 1) / blocks) - begin;
        const Block run = r.stride == 2 ? block_of<1, 2>(count, Sizes{})
                          : r.out[1]    ? block_of<2, 1>(count, Sizes{})
                                        : block_of<1, 1>(count, Sizes{});
        run(r, 2 * begin);
    }
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
