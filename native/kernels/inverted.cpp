// Inverted residual blocks (MobileNetV2, figure 3d; with neither first convolution nor addition also the depthwise
// separable ones): pointwise up, depthwise 3x3, pointwise down, in bands of rows. What is between them is six times as
// wide as what goes in and out, and never leaves the second-level cache.
//   e = clamp(x w1 + b1),   d = clamp(depthwise(e, w) + b),   y = clamp(d w2 + b2) + residual
#include "kernels/conv_depthwise3.h"
#include "kernels/families.h"
#include "kernels/op_tools.h"
#include "kernels/pointwise.h"
#include "runtime/memory.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// What a band's intermediate values may take of a second-level cache, which holds the weights as well.
constexpr long band_floats = (384 << 10) / 4;

// As the lowering gives it (inverted.py).
struct Block {
    int height, width, cin, hidden, out_height, out_width, cout, stride, pad, expands, splits;

    explicit Block(const long* i)
        : height(static_cast<int>(i[0])),
          width(static_cast<int>(i[1])),
          cin(static_cast<int>(i[2])),
          hidden(static_cast<int>(i[3])),
          out_height(static_cast<int>(i[4])),
          out_width(static_cast<int>(i[5])),
          cout(static_cast<int>(i[6])),
          stride(static_cast<int>(i[7])),
          pad(static_cast<int>(i[8])),
          expands(static_cast<int>(i[9])),
          splits(static_cast<int>(i[10])) {}

    long in_row() const { return static_cast<long>(width) * cin; }
    long wide_row() const { return static_cast<long>(width) * hidden; }
    long deep_row() const { return static_cast<long>(out_width) * hidden; }
    long out_row() const { return static_cast<long>(out_width) * cout; }
    // Rows of inputs that `rows` rows of outputs meet.
    int input_rows(int rows) const { return (rows - 1) * stride + 3; }
    // Rows of outputs of one band: bands of about equal height.
    int band_rows(int rows) const {
        int fitting = 1;
        while (fitting < rows &&
               (expands ? input_rows(fitting + 1) : 0) * wide_row() + (fitting + 1) * deep_row() <= band_floats)
            fitting++;
        return static_cast<int>(ceil_div(rows, ceil_div(rows, fitting)));
    }
};

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
// ints: see Block; reals: low and high of the three clamps (infinite: none).
void inverted_residual(const OpCall& call) {
    const Block s(call.ints);
    const auto epilogue = [&](int bias, int clamp) {
        const float low = call.reals[2 * clamp], high = call.reals[2 * clamp + 1];
        return Epilogue{in(call, bias), low > -__builtin_inff() || high < __builtin_inff(), low, high};
    };
    const Epilogue wide = epilogue(3, 0), deep = epilogue(5, 1), last = epilogue(7, 2);
    const float *x = in(call, 1), *residual = in(call, 8);
    float* y = out(call, 0);
    parallel(call.n * s.splits, [&](long piece) {
        const int split = static_cast<int>(piece % s.splits);
        const int begin = static_cast<int>(static_cast<long>(s.out_height) * split / s.splits);
        const int end = static_cast<int>(static_cast<long>(s.out_height) * (split + 1) / s.splits);
        const float* image = x + piece / s.splits * s.height * s.in_row();
        const long out_image = piece / s.splits * s.out_height * s.out_row();
        const int band = s.band_rows(end - begin);
        const long wide_floats = s.expands ? s.input_rows(band) * s.wide_row() : 0;
        float* expanded = thread_scratch(static_cast<size_t>(wide_floats + band * s.deep_row()));
        float* between = expanded + wide_floats;
        Pointwise up(s.cin, s.hidden, in(call, 2), wide), down(s.hidden, s.cout, in(call, 6), last);
        DepthwiseRow row{{},       s.hidden, s.stride, s.width, s.out_width, s.pad, in(call, 4), 3L * s.hidden,
                         s.hidden, &deep,    nullptr,  nullptr, nullptr};
        int first = 0, behind = 0;  // the rows that `expanded` holds
        for (int at = begin; at < end; at += band) {
            const int until = min_of(end, at + band);
            const int low = max_of(0, at * s.stride - s.pad);
            const int high = min_of(s.height, (until - 1) * s.stride - s.pad + 3);
            const float* rows = image + low * s.in_row();
            if (s.expands) {
                const int kept = max_of(0, behind - low);
                if (kept > 0)
                    __builtin_memmove(expanded, expanded + (low - first) * s.wide_row(),
                                      static_cast<size_t>(kept * s.wide_row()) * sizeof(float));
                up.run(rows + kept * s.in_row(), (high - low - kept) * static_cast<long>(s.width),
                       expanded + kept * s.wide_row());
                first = low;
                behind = high;
                rows = expanded;
            }
            for (int i = at; i < until; i++) {
                find_rows(
                    i, s.stride, s.pad, s.height, [&](int k) { return rows + (k - low) * s.wide_row(); }, row.rows);
                row.out = between + (i - at) * s.deep_row();
                depthwise3_row(row);
            }
            const long offset = out_image + at * s.out_row();
            down.run(between, (until - at) * static_cast<long>(s.out_width), y + offset);
            if (residual) add_to(y + offset, residual + offset, (until - at) * s.out_row());
        }
    });
}

const OpKernel list[] = {
    {"pointwise_pack", 2, 2, 0, pack, nullptr},
    {"inverted_residual", 9, 11, 6, inverted_residual, nullptr},
};

}  // namespace

OpList inverted_ops() { return op_list(list); }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
