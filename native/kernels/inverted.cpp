// Inverted residual blocks (MobileNetV2, figure 3d; with neither first convolution nor addition also the depthwise
// separable ones): pointwise up, depthwise 3x3, pointwise down, in bands of rows. What is between them is six times as
// wide as what goes in and out, and never leaves the second-level cache.
//   e = clamp(x w1 + b1),   d = clamp(depthwise(e, w) + b),   y = clamp(d w2 + b2) + residual
#include "kernels/inverted.h"
#include "kernels/conv_depthwise3.h"
#include "kernels/families.h"
#include "kernels/op_tools.h"
#include "kernels/pointwise.h"
#include "runtime/memory.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// packed, weight; ints: C_in, C_out. Room for C_out + 63 columns is enough on every instruction set.
void pack(const OpCall& call) {
    const Epilogue none;
    const Pointwise convolution(static_cast<int>(call.ints[0]), static_cast<int>(call.ints[1]), nullptr, none);
    convolution.pack(in(call, 1), false, out(call, 0));
}

void add_to(float* y, const float* residual, long count) {
    for (long i = 0; i < count; i += VL) {
        const Mask mask = first_lanes(count - i);
        store(y + i, load(y + i, mask) + load(residual + i, mask), mask);
    }
}

// y, x, packed w1, b1 (each null without expansion), w, b, packed w2, b2, residual (may be null; so may every bias);
// ints: see InvertedBlock; reals: low and high of the three clamps (infinite: none).
void inverted_residual(const OpCall& call) {
    const InvertedBlock s(call.ints);
    const Epilogue wide = inverted_epilogue(call, in(call, 3), 0), deep = inverted_epilogue(call, in(call, 5), 1),
                   last = inverted_epilogue(call, in(call, 7), 2);
    const float *x = in(call, 1), *residual = in(call, 8);
    float* y = out(call, 0);
    const long wide_row = static_cast<long>(s.width) * s.hidden, deep_row = static_cast<long>(s.out_width) * s.hidden;
    parallel(call.n * s.splits, [&](long piece) {
        const int begin = s.first_row(piece % s.splits), end = s.first_row(piece % s.splits + 1);
        const float* image = x + piece / s.splits * s.height * s.in_row();
        const long out_image = piece / s.splits * s.out_height * s.out_row();
        const int band = s.band_rows(end - begin, s.expands ? wide_row : 0, deep_row, inverted_band_bytes / 4);
        const long wide_floats = s.expands ? s.input_rows(band) * wide_row : 0;
        float* expanded = thread_scratch(static_cast<size_t>(wide_floats + band * deep_row));
        float* between = expanded + wide_floats;
        Pointwise up(s.cin, s.hidden, in(call, 2), wide), down(s.hidden, s.cout, in(call, 6), last);
        DepthwiseRow row{{},       s.hidden, s.stride, s.width, s.out_width, s.pad, in(call, 4), 3L * s.hidden,
                         s.hidden, &deep,    nullptr,  nullptr, nullptr};
        int first = 0, behind = 0;  // the rows that `expanded` holds
        s.over_bands(begin, end, band, [&](int at, int until, int low, int high) {
            const float* rows = image + low * s.in_row();
            if (s.expands) {
                const int kept = max_of(0, behind - low);
                if (kept > 0)
                    __builtin_memmove(expanded, expanded + (low - first) * wide_row,
                                      static_cast<size_t>(kept * wide_row) * sizeof(float));
                up.run(rows + kept * s.in_row(), (high - low - kept) * static_cast<long>(s.width),
                       expanded + kept * wide_row);
                first = low;
                behind = high;
                rows = expanded;
            }
            for (int i = at; i < until; i++) {
                find_rows(i, s.stride, s.pad, s.height, [&](int k) { return rows + (k - low) * wide_row; }, row.rows);
                row.out = between + (i - at) * deep_row;
                depthwise3_row(row);
            }
            const long offset = out_image + at * s.out_row();
            down.run(between, (until - at) * static_cast<long>(s.out_width), y + offset);
            if (residual) add_to(y + offset, residual + offset, (until - at) * s.out_row());
        });
    });
}

const OpKernel list[] = {
    {"pointwise_pack", 2, 2, 0, pack, nullptr},
    {"inverted_residual", 9, 11, 6, inverted_residual, nullptr},
};

}  // namespace

OpList inverted_ops() { return op_list(list); }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
