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

// Elements of the input that every output position mixes: indices and weights of `count` taps, position by position.
struct Taps {
    long count;
    const long* index;
    const float* weight;
};

FOVEA_INLINE Taps taps_of(const OpCall& call) { return {call.ints[axis_ints], call.ints + axis_ints + 1, call.reals}; }

// y, x; ints: Axis, number of taps, their indices; reals: their weights.  y[o, i, :] = sum of w_it x[o, index_it, :]
void taps(const OpCall& call) {
    const Axis a = axis(call);
    const Taps t = taps_of(call);
    const float* x = in(call, 1);
    float* y = out(call, 0);
    over_rows(call.n * a.outer * a.out, a.inner * t.count, [=](long begin, long end) {
        for (long row = begin; row < end; row++) {
            const long o = row / a.out, first = row % a.out * t.count;
            float* to = y + row * a.inner;
            bool empty = true;
            for (long i = first; i < first + t.count; i++) {
                const float *from = x + (o * a.in + t.index[i]) * a.inner, w = t.weight[i];
                if (w == 0.0f) continue;  // what has no weight may be infinite
                if (empty) {
                    for (long c = 0; c < a.inner; c++) to[c] = w * from[c];
                } else {
                    for (long c = 0; c < a.inner; c++) to[c] += w * from[c];
                }
                empty = false;
            }
        }
    });
}

// dx, dy; ints and reals as taps.
void taps_backward(const OpCall& call) {
    const Axis a = axis(call);
    const Taps t = taps_of(call);
    const float* dy = in(call, 1);
    float* dx = out(call, 0);
    over_rows(call.n * a.outer, max_of(a.in, a.out * t.count) * a.inner, [=](long begin, long end) {
        for (long o = begin; o < end; o++) {
            float* to = dx + o * a.in * a.inner;
            for (long c = 0; c < a.in * a.inner; c++) to[c] = 0;
            for (long i = 0; i < a.out * t.count; i++) {
                const float *g = dy + (o * a.out + i / t.count) * a.inner, w = t.weight[i];
                float* into = to + t.index[i] * a.inner;
                if (w == 0.0f) continue;
                for (long c = 0; c < a.inner; c++) into[c] += w * g[c];
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
