#include "kernels/conv_naive.h"

#include "runtime/pool.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

struct Position {
    int at[3];
};

FOVEA_INLINE Position unflatten(long flat, const int size[3]) {
    return {{static_cast<int>(flat / size[2] / size[1]), static_cast<int>(flat / size[2] % size[1]),
             static_cast<int>(flat % size[2])}};
}

// The input pixel that output position p meets through tap m, or -1 when it lies in the padding.
FOVEA_INLINE long input_pixel(const ConvShape& s, const Position& p, const Position& m) {
    long flat = 0;
    for (int i = 0; i < 3; i++) {
        const long q =
            static_cast<long>(p.at[i]) * s.stride[i] + static_cast<long>(m.at[i]) * s.dilation[i] - s.pad_lo[i];
        if (q < 0 || q >= s.in[i]) return -1;
        flat = flat * s.in[i] + q;
    }
    return flat;
}

// The output pixel whose tap m meets input position q, or -1 when there is none.
FOVEA_INLINE long output_pixel(const ConvShape& s, const Position& q, const Position& m) {
    long flat = 0;
    for (int i = 0; i < 3; i++) {
        const long p = static_cast<long>(q.at[i]) + s.pad_lo[i] - static_cast<long>(m.at[i]) * s.dilation[i];
        if (p < 0 || p % s.stride[i] || p / s.stride[i] >= s.out[i]) return -1;
        flat = flat * s.out[i] + p / s.stride[i];
    }
    return flat;
}

FOVEA_INLINE float finish(float v, int channel, const Epilogue& e) {
    if (e.bias) v += e.bias[channel];
    if (!e.clamp) return v;
    return v < e.low ? e.low : v > e.high ? e.high : v;
}

void forward_pixel(const ConvShape& s, const Position& p, const float* x, const float* w, float* y,
                   const Epilogue& epilogue) {
    const int cg = s.group_cin(), og = s.group_cout();
    for (int o = 0; o < s.cout; o++) {
        float sum = 0;
        for (int tap = 0; tap < s.taps(); tap++) {
            const long q = input_pixel(s, p, unflatten(tap, s.kernel));
            if (q < 0) continue;
            const float* pixel = x + q * s.cin + o / og * cg;
            for (int c = 0; c < cg; c++) sum += pixel[c] * w[(static_cast<long>(tap) * cg + c) * s.cout + o];
        }
        y[o] = finish(sum, o, epilogue);
    }
}

void backward_data_pixel(const ConvShape& s, const Position& q, const float* dy, const float* w, float* dx,
                         const Epilogue& epilogue) {
    const int cg = s.group_cin(), og = s.group_cout();
    for (int c = 0; c < s.cin; c++) {
        float sum = 0;
        for (int tap = 0; tap < s.taps(); tap++) {
            const long p = output_pixel(s, q, unflatten(tap, s.kernel));
            if (p < 0) continue;
            const long first = c / cg * og;
            const float* row = w + (static_cast<long>(tap) * cg + c % cg) * s.cout + first;
            for (int o = 0; o < og; o++) sum += dy[p * s.cout + first + o] * row[o];
        }
        dx[c] = finish(sum, c, epilogue);
    }
}

}  // namespace

void conv_naive(const ConvPlan& plan, int n, const float* from, const float* weight, float* to,
                const Epilogue& epilogue) {
    const ConvShape& s = plan.shape;
    const bool forward = plan.pass == ConvPass::forward;
    const long from_image = forward ? s.in_pixels() * s.cin : s.out_pixels() * s.cout;
    const int* size = forward ? s.out : s.in;
    const long pixels = forward ? s.out_pixels() : s.in_pixels();
    const int channels = forward ? s.cout : s.cin;
    parallel(n * static_cast<long>(size[0]) * size[1], [&](long row) {
        for (int column = 0; column < size[2]; column++) {
            const long flat = row * size[2] + column;
            const Position at = unflatten(flat % pixels, size);
            const float* image = from + flat / pixels * from_image;
            if (forward)
                forward_pixel(s, at, image, weight, to + flat * channels, epilogue);
            else
                backward_data_pixel(s, at, image, weight, to + flat * channels, epilogue);
        }
    });
}

void conv_naive_backward_weight(const ConvPlan& plan, int n, const float* input, const float* grad_output,
                                float* grad_weight) {
    const ConvShape& s = plan.shape;
    const int cg = s.group_cin(), og = s.group_cout();
    parallel(static_cast<long>(s.taps()) * cg, [&](long row) {
        const Position m = unflatten(row / cg, s.kernel);
        float* dw = grad_weight + row * s.cout;
        for (int o = 0; o < s.cout; o++) dw[o] = 0;
        for (long flat = 0; flat < n * s.out_pixels(); flat++) {
            const long q = input_pixel(s, unflatten(flat % s.out_pixels(), s.out), m);
            if (q < 0) continue;
            const float* pixel = input + (flat / s.out_pixels() * s.in_pixels() + q) * s.cin + row % cg;
            const float* dy = grad_output + flat * s.cout;
            for (int o = 0; o < s.cout; o++) dw[o] += pixel[o / og * cg] * dy[o];
        }
    });
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
