#include "kernels/conv_pool.h"

#include "kernels/families.h"
#include "kernels/planar.h"
#include "kernels/tap_conv.h"
#include "kernels/winners.h"
#include "runtime/memory.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

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
        float pooled[max_planar_channels * VL], winners[max_planar_channels * VL], mixed[max_planar_channels * VL];
        const long first = group * joined;
        for (long piece = first; piece < min_of(pieces, first + joined); piece++) {
            const long image = piece / count;
            const int begin = static_cast<int>(piece % count) * planes.bands.positions;
            const int end = min_of(s.out[1], begin + planes.bands.positions);
            copy_planes(s, planes, begin, end, in(call, 2) + image * s.in_pixels() * s.cin, count > 1 || piece == first,
                        copy);
            for (long y = begin; y < end; y += 2)
                for (long x = 0; x < pw; x += VL) {
                    const long pixels = min_of<long>(VL, pw - x);
                    run_pooled_tile(tile, copy + (y - begin) * tile.row_step + 2 * x, pixels, pooled,
                                    index ? winners : nullptr);
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
