#include "kernels/conv_pool.h"

#include "kernels/families.h"
#include "kernels/planar.h"
#include "kernels/tap_conv.h"
#include "kernels/winners.h"
#include "runtime/memory.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// Of two candidates the later wins if it is larger, or NaN while the earlier is not: as maxpool in pool.cpp.
FOVEA_INLINE void keep_larger(Vec& best, VecInt& winner, Vec other, int number) {
    const VecInt wins = ~(other <= best) & (best == best);
    best = wins ? other : best;
    winner = wins ? VecInt{} + number : winner;
}

// The pooled pixels of a tile of two rows, and their winners, still in planes.
void pool_tile(const float* sums, int channels, float* pooled, float* winners) {
    for (int c = 0; c < channels; c++, sums += planar_rows * planar_width) {
        const Vec a = load(sums), b = load(sums + VL), d = load(sums + planar_width),
                  e = load(sums + planar_width + VL);
        Vec best = pick_lanes<EvenLanes>(a, b);
        VecInt winner = {};
        keep_larger(best, winner, pick_lanes<OddLanes>(a, b), 1);
        keep_larger(best, winner, pick_lanes<EvenLanes>(d, e), 2);
        keep_larger(best, winner, pick_lanes<OddLanes>(d, e), 3);
        store(pooled + c * VL, best);
        store(winners + c * VL, reinterpret_cast<Vec>(winner));  // numbers, on their way through the same permutations
    }
}

// y, winners (bytes; may be null), x, weight, bias (may be null); reals: low, high of the clamp.
void convpool(const OpCall& call) {
    const ConvShape s = pooled_shape(call);
    const long ph = s.out[1] / 2, pw = s.out[2] / 2;
    const long wanted = piece_count(s.macs(static_cast<int>(call.n)));
    const Planes planes = make_planes(s, ceil_div(wanted, call.n), 2);
    const Epilogue epilogue{in(call, 4), call.ints[clamp_int] != 0, call.reals[0], call.reals[1]};
    const PlanarTile tile{&s, &planes, in(call, 3), &epilogue, s.stride[1] * planes.pitch};
    const Interleave write = find_interleave(s.cout);
    uint8_t* index = static_cast<uint8_t*>(call.operand[1]);
    const long count = planes.bands.count, pieces = count * call.n, joined = ceil_div(pieces, wanted);
    parallel(ceil_div(pieces, joined), [&](long group) {
        float* copy = thread_scratch(planes.floats);
        float sums[max_planar_channels * planar_rows * planar_width];
        float pooled[max_planar_channels * VL], winners[max_planar_channels * VL], mixed[max_planar_channels * VL];
        for (long piece = group * joined; piece < min_of(pieces, (group + 1) * joined); piece++) {
            const long image = piece / count;
            const int begin = static_cast<int>(piece % count) * planes.bands.positions;
            const int end = min_of(s.out[1], begin + planes.bands.positions);
            copy_planes(s, planes, begin, end, in(call, 2) + image * s.in_pixels() * s.cin, copy);
            for (long y = begin; y < end; y += 2)
                for (long x = 0; x < pw; x += VL) {
                    const long pixels = min_of<long>(VL, pw - x);
                    run_planar_tile(tile, copy + (y - begin) * tile.row_step + 2 * x, 2, 2 * pixels, sums);
                    pool_tile(sums, s.cout, pooled, winners);
                    const long at = ((image * ph + y / 2) * pw + x) * s.cout;
                    write(pooled, VL, out(call, 0) + at, pixels);
                    if (!index) continue;
                    write(winners, VL, mixed, pixels);
                    for (long i = 0; i < pixels * s.cout; i += VL)
                        store_winners(index + at + i, reinterpret_cast<VecInt>(load(mixed + i)), pixels * s.cout - i);
                }
        }
    });
}

const OpKernel list[] = {
    {"convpool", 5, convpool_ints, 2, convpool, nullptr},
    {"convpool_backward_weight", 6, convpool_ints, 0, convpool_backward_weight, convpool_backward_scratch},
    {"convpool_backward_data", 5, convpool_ints, 0, convpool_backward_data, convpool_backward_data_scratch},
};

}  // namespace

OpList conv_pool_ops() { return op_list(list); }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
