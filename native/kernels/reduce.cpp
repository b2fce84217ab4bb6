// Sums, means and maxima along one axis of outer x size x inner, and sums over rows (bias gradients).
#include "kernels/column_sum.h"
#include "kernels/families.h"
#include "kernels/op_tools.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// The ints of a reduction: what lies outside the axis in one sample, the axis, what lies inside.
struct Axis {
    long outer, size, inner;
};

FOVEA_INLINE const Axis& axis(const OpCall& call) { return *reinterpret_cast<const Axis*>(call.ints); }

// y, x; ints: outer, size, inner; reals: factor.  y[o, i] = factor sum over s of x[o, s, i]
template <class S>
void reduce_sum(const OpCall& call) {
    const Axis a = axis(call);
    S* y = out<S>(call, 0);
    const S* x = in<S>(call, 1);
    const float factor = call.reals[0];
    over_rows(call.n * a.outer, a.size * a.inner, [=](long begin, long end) {
        for (long o = begin; o < end; o++) {
            const S* from = x + o * a.size * a.inner;
            if (a.inner == 1) {
                Vec sum = {};
                for (long s = 0; s < a.size; s += VL) sum += load(from + s, first_lanes(a.size - s));
                put(y + o, sum_lanes(sum) * factor);
                continue;
            }
            for (long i = 0; i < a.inner; i += VL) {
                const Mask mask = first_lanes(a.inner - i);
                Vec sum[4] = {};
                long s = 0;
                for (; s + 4 <= a.size; s += 4) FOVEA_UNROLL
                for (int k = 0; k < 4; k++) sum[k] += load(from + (s + k) * a.inner + i, mask);
                for (; s < a.size; s++) sum[0] += load(from + s * a.inner + i, mask);
                store(y + o * a.inner + i, ((sum[0] + sum[1]) + (sum[2] + sum[3])) * factor, mask);
            }
        }
    });
}

// dx, dy; ints and reals as above.  dx[o, s, i] = factor dy[o, i]
template <class S>
void reduce_sum_backward(const OpCall& call) {
    const Axis a = axis(call);
    S* dx = out<S>(call, 0);
    const S* dy = in<S>(call, 1);
    const float factor = call.reals[0];
    over_rows(call.n * a.outer, a.size * a.inner, [=](long begin, long end) {
        for (long o = begin; o < end; o++) {
            S* to = dx + o * a.size * a.inner;
            if (a.inner == 1) {
                const Vec share = broadcast(value(dy[o]) * factor);
                for (long s = 0; s < a.size; s += VL) store(to + s, share, first_lanes(a.size - s));
                continue;
            }
            for (long i = 0; i < a.inner; i += VL) {
                const Mask mask = first_lanes(a.inner - i);
                const Vec value = load(dy + o * a.inner + i, mask) * factor;
                for (long s = 0; s < a.size; s++) store(to + s * a.inner + i, value, mask);
            }
        }
    });
}

// y, x; ints: outer, size, inner.  y[o, i] = max over s of x[o, s, i]; NaN wins and stays
void reduce_max(const OpCall& call) {
    const Axis a = axis(call);
    float* y = out(call, 0);
    const float* x = in(call, 1);
    over_rows(call.n * a.outer, a.size * a.inner, [=](long begin, long end) {
        for (long o = begin; o < end; o++) {
            float* to = y + o * a.inner;
            for (long s = 0; s < a.size; s++) {
                const float* from = x + (o * a.size + s) * a.inner;
                for (long i = 0; i < a.inner; i++)
                    to[i] = s == 0 || (!(from[i] <= to[i]) && to[i] == to[i]) ? from[i] : to[i];
            }
        }
    });
}

// dx, dy, x, y; ints as above. The gradient goes to the first maximum.
void reduce_max_backward(const OpCall& call) {
    const Axis a = axis(call);
    float* dx = out(call, 0);
    const float *dy = in(call, 1), *x = in(call, 2), *y = in(call, 3);
    over_rows(call.n * a.outer, a.size * a.inner, [=](long begin, long end) {
        for (long o = begin; o < end; o++)
            for (long i = 0; i < a.inner; i++) {
                const float best = y[o * a.inner + i];
                bool found = false;
                for (long s = 0; s < a.size; s++) {
                    const long at = (o * a.size + s) * a.inner + i;
                    const bool wins = !found && (x[at] == best || (x[at] != x[at] && best != best));
                    dx[at] = wins ? dy[o * a.inner + i] : 0.0f;
                    found = found || wins;
                }
            }
    });
}

size_t sum_scratch(const OpCall& call) {
    return column_sum_scratch(call.n * call.ints[0], static_cast<int>(call.ints[1]));
}

// y, x; ints: rows of one sample, columns.  y[c] = sum over rows of x[row, c]
template <class S>
void sum_rows(const OpCall& call) {
    column_sum(in<S>(call, 1), call.n * call.ints[0], static_cast<int>(call.ints[1]), out(call, 0), call.scratch);
}

const OpKernel list[] = {
    {"reduce_sum", 2, 3, 1, reduce_sum<float>, nullptr, operands(0, 1), reduce_sum<bf16>},
    {"reduce_sum_backward", 2, 3, 1, reduce_sum_backward<float>, nullptr, operands(0, 1), reduce_sum_backward<bf16>},
    {"reduce_max", 2, 3, 0, reduce_max, nullptr},
    {"reduce_max_backward", 4, 3, 0, reduce_max_backward, nullptr},
    {"column_sum", 2, 2, 0, sum_rows<float>, sum_scratch, operands(1), sum_rows<bf16>},
};

}  // namespace

OpList reduce_ops() { return op_list(list); }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
