// Moving elements: strided copies (transpose, slice, concat, ...), and taps and bins along one axis (pad, resize,
// pool).
#include "kernels/families.h"
#include "kernels/op_tools.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// y, x; ints: floats between samples of x and of y, offsets into a sample of x and of y, number of axes, then their
// sizes, strides in x, strides in y.  y[sum of i * stride_y] = x[sum of i * stride_x]
template <class S>
void copy(const OpCall& call) {
    const long x_sample = call.ints[0], y_sample = call.ints[1], axes = call.ints[4];
    const long *size = call.ints + 5, *x_stride = size + axes, *y_stride = x_stride + axes;
    S* y = out<S>(call, 0) + call.ints[3];
    const S* x = in<S>(call, 1) + call.ints[2];
    const long width = size[axes - 1], xs = x_stride[axes - 1], ys = y_stride[axes - 1];
    long rows = 1;
    for (long i = 0; i + 1 < axes; i++) rows *= size[i];
    over_rows(call.n * rows, width, [=](long begin, long end) {
        for (long flat = begin; flat < end; flat++) {
            const long sample = flat / rows;
            long rest = flat % rows, from = sample * x_sample, to = sample * y_sample;
            for (long i = axes - 2; i >= 0; i--) {
                from += rest % size[i] * x_stride[i];
                to += rest % size[i] * y_stride[i];
                rest /= size[i];
            }
            if (xs == 1 && ys == 1) {
                for (long i = 0; i < width; i++) y[to + i] = x[from + i];
            } else {
                for (long i = 0; i < width; i++) y[to + i * ys] = x[from + i * xs];
            }
        }
    });
}

// One axis of a sample: what lies outside, its input and output size, what lies inside; tables follow in the ints.
struct Axis {
    long outer, in, out, inner;
};
constexpr int axis_ints = 4;

FOVEA_INLINE const Axis& axis(const OpCall& call) { return *reinterpret_cast<const Axis*>(call.ints); }

// y, x; ints: Axis, low index for every output, high index; reals: weight of the high one.
// y[o, i, :] = (1 - w_i) x[o, low_i, :] + w_i x[o, high_i, :]
void taps(const OpCall& call) {
    const Axis a = axis(call);
    const long *low = call.ints + axis_ints, *high = low + a.out;
    const float *x = in(call, 1), *weight = call.reals;
    float* y = out(call, 0);
    over_rows(call.n * a.outer * a.out, a.inner, [=](long begin, long end) {
        for (long row = begin; row < end; row++) {
            const long i = row % a.out, o = row / a.out;
            const float *first = x + (o * a.in + low[i]) * a.inner, *second = x + (o * a.in + high[i]) * a.inner;
            float *to = y + row * a.inner, w = weight[i];
            if (w == 0.0f) {
                for (long c = 0; c < a.inner; c++) to[c] = first[c];
            } else {
                for (long c = 0; c < a.inner; c++) to[c] = (1.0f - w) * first[c] + w * second[c];
            }
        }
    });
}

// dx, dy; ints and reals as taps.
void taps_backward(const OpCall& call) {
    const Axis a = axis(call);
    const long *low = call.ints + axis_ints, *high = low + a.out;
    const float *dy = in(call, 1), *weight = call.reals;
    float* dx = out(call, 0);
    over_rows(call.n * a.outer, max_of(a.in, a.out) * a.inner, [=](long begin, long end) {
        for (long o = begin; o < end; o++) {
            float* to = dx + o * a.in * a.inner;
            for (long c = 0; c < a.in * a.inner; c++) to[c] = 0;
            for (long i = 0; i < a.out; i++) {
                const float *g = dy + (o * a.out + i) * a.inner, w = weight[i];
                float *first = to + low[i] * a.inner, *second = to + high[i] * a.inner;
                for (long c = 0; c < a.inner; c++) first[c] += (1.0f - w) * g[c];
                if (w == 0.0f) continue;
                for (long c = 0; c < a.inner; c++) second[c] += w * g[c];
            }
        }
    });
}

// y, x; ints: Axis, first index of every bin, index behind its last.  y[o, i, :] = mean of x[o, start_i : stop_i, :]
void bins(const OpCall& call) {
    const Axis a = axis(call);
    const long *start = call.ints + axis_ints, *stop = start + a.out;
    const float* x = in(call, 1);
    float* y = out(call, 0);
    over_rows(call.n * a.outer * a.out, a.inner * max_of(1L, a.in / a.out), [=](long begin, long end) {
        for (long row = begin; row < end; row++) {
            const long i = row % a.out, o = row / a.out;
            float* to = y + row * a.inner;
            for (long c = 0; c < a.inner; c++) to[c] = 0;
            for (long s = start[i]; s < stop[i]; s++) {
                const float* from = x + (o * a.in + s) * a.inner;
                for (long c = 0; c < a.inner; c++) to[c] += from[c];
            }
            const float share = 1.0f / static_cast<float>(stop[i] - start[i]);
            for (long c = 0; c < a.inner; c++) to[c] *= share;
        }
    });
}

// dx, dy; ints as bins.
void bins_backward(const OpCall& call) {
    const Axis a = axis(call);
    const long *start = call.ints + axis_ints, *stop = start + a.out;
    const float* dy = in(call, 1);
    float* dx = out(call, 0);
    over_rows(call.n * a.outer, max_of(a.in, a.out) * a.inner, [=](long begin, long end) {
        for (long o = begin; o < end; o++) {
            float* to = dx + o * a.in * a.inner;
            for (long c = 0; c < a.in * a.inner; c++) to[c] = 0;
            for (long i = 0; i < a.out; i++) {
                const float* g = dy + (o * a.out + i) * a.inner;
                const float share = 1.0f / static_cast<float>(stop[i] - start[i]);
                for (long s = start[i]; s < stop[i]; s++)
                    for (long c = 0; c < a.inner; c++) to[s * a.inner + c] += g[c] * share;
            }
        }
    });
}

const OpKernel list[] = {
    {"copy", 2, -1, 0, copy<float>, nullptr, operands(0, 1), copy<bf16>},
    {"taps", 2, -1, -1, taps, nullptr},
    {"taps_backward", 2, -1, -1, taps_backward, nullptr},
    {"bins", 2, -1, 0, bins, nullptr},
    {"bins_backward", 2, -1, 0, bins_backward, nullptr},
};

}  // namespace

OpList shape_ops() { return op_list(list); }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
