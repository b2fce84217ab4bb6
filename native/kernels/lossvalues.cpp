// Losses that compare values and targets element by element.
#include "kernels/families.h"
#include "kernels/op_tools.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

FOVEA_INLINE float logistic(float x) {
    const float e = __builtin_expf(-__builtin_fabsf(x));
    return x < 0.0f ? e / (1.0f + e) : 1.0f / (1.0f + e);
}
FOVEA_INLINE float cross_entropy(float x, float t) {
    return (x > 0.0f ? x : 0.0f) - x * t + __builtin_log1pf(__builtin_expf(-__builtin_fabsf(x)));
}

// A loss of one element: its value, its derivatives by the value and by the target. `a`, `b`: two numbers of the op.
struct Square {
    static FOVEA_INLINE float value(float x, float t, float, float) { return (x - t) * (x - t); }
    static FOVEA_INLINE float by_x(float x, float t, float, float) { return 2.0f * (x - t); }
    static FOVEA_INLINE float by_t(float x, float t, float a, float b) { return -by_x(x, t, a, b); }
};
struct SmoothL1 {  // a: beta
    static FOVEA_INLINE float value(float x, float t, float a, float) {
        const float d = __builtin_fabsf(x - t);
        return d < a ? d * d / (2.0f * a) : d - a / 2.0f;
    }
    static FOVEA_INLINE float by_x(float x, float t, float a, float) {
        const float d = (x - t) / a;
        return d < -1.0f ? -1.0f : d > 1.0f ? 1.0f : d;
    }
    static FOVEA_INLINE float by_t(float x, float t, float a, float b) { return -by_x(x, t, a, b); }
};
struct CrossEntropy {
    static FOVEA_INLINE float value(float x, float t, float, float) { return cross_entropy(x, t); }
    static FOVEA_INLINE float by_x(float x, float t, float, float) { return logistic(x) - t; }
    static FOVEA_INLINE float by_t(float x, float, float, float) { return -x; }
};
// With u = 1 - p_t (from the logistic of x and -x: neither cancels) and s = a_t; a: gamma, b: alpha (below 0: s = 1).
struct Focal {
    static FOVEA_INLINE float miss(float x, float t) { return t * logistic(-x) + (1.0f - t) * logistic(x); }
    static FOVEA_INLINE float balance(float t, float b) { return b < 0.0f ? 1.0f : t * b + (1.0f - t) * (1.0f - b); }
    // gamma u^(gamma - 1); 0 at u = 0, where the cross-entropy that it multiplies is 0 as well
    static FOVEA_INLINE float lower(float u, float a) { return u > 0.0f ? a * __builtin_powf(u, a) / u : 0.0f; }
    static FOVEA_INLINE float value(float x, float t, float a, float b) {
        return balance(t, b) * __builtin_powf(miss(x, t), a) * cross_entropy(x, t);
    }
    static FOVEA_INLINE float by_x(float x, float t, float a, float b) {
        const float u = miss(x, t), p = logistic(x), ce = cross_entropy(x, t);
        const float inner = __builtin_powf(u, a) * (p - t) + lower(u, a) * ce * p * logistic(-x) * (1.0f - 2.0f * t);
        return balance(t, b) * inner;
    }
    static FOVEA_INLINE float by_t(float x, float t, float a, float b) {
        const float u = miss(x, t), p = logistic(x), ce = cross_entropy(x, t), s = balance(t, b);
        const float slope = b < 0.0f ? 0.0f : 2.0f * b - 1.0f;
        return __builtin_powf(u, a) * (ce * slope - s * x) + s * lower(u, a) * ce * (1.0f - 2.0f * p);
    }
};

// With d = p - t; a: beta.
struct Quality {
    static FOVEA_INLINE float slope(float d, float a) {  // of |d|^a
        const float lower = a * __builtin_powf(__builtin_fabsf(d), a - 1.0f);
        return d > 0.0f ? lower : d < 0.0f ? -lower : 0.0f;
    }
    static FOVEA_INLINE float value(float x, float t, float a, float) {
        return __builtin_powf(__builtin_fabsf(logistic(x) - t), a) * cross_entropy(x, t);
    }
    static FOVEA_INLINE float by_x(float x, float t, float a, float) {
        const float p = logistic(x), d = p - t;
        return __builtin_powf(__builtin_fabsf(d), a) * d + slope(d, a) * p * logistic(-x) * cross_entropy(x, t);
    }
    static FOVEA_INLINE float by_t(float x, float t, float a, float) {
        const float d = logistic(x) - t;
        return -__builtin_powf(__builtin_fabsf(d), a) * x - slope(d, a) * cross_entropy(x, t);
    }
};

constexpr long value_grain = 4096;

size_t scratch(const OpCall& call) { return static_cast<size_t>(2 * ceil_div(call.n * call.ints[0], value_grain)); }

// What the sum is divided by: all elements, or (ints[1]) the samples.
FOVEA_INLINE double divisor(const OpCall& call) {
    return static_cast<double>(call.ints[1] ? call.n : call.n * call.ints[0]);
}

// loss, values, targets; ints: floats of one sample, whether the mean is over samples; reals: two numbers.
template <class L>
void loss(const OpCall& call) {
    const float *x = in(call, 1), *t = in(call, 2), a = call.reals[0], b = call.reals[1];
    double* parts = reinterpret_cast<double*>(call.scratch);
    const long count = call.n * call.ints[0];
    over_range(count, value_grain, [=](long begin, long end) {
        double sum = 0;
        for (long i = begin; i < end; i++) sum += static_cast<double>(L::value(x[i], t[i], a, b));
        parts[begin / value_grain] = sum;
    });
    double sum = 0;
    for (long piece = 0; piece < ceil_div(count, value_grain); piece++) sum += parts[piece];
    *out(call, 0) = static_cast<float>(sum / divisor(call));
}

// dvalues, dtargets (each may be null), grad_loss, values, targets; ints and reals as loss.
template <class L>
void loss_backward(const OpCall& call) {
    float *dx = out(call, 0), *dt = out(call, 1);
    const float *x = in(call, 3), *t = in(call, 4), a = call.reals[0], b = call.reals[1];
    const float scale = static_cast<float>(static_cast<double>(*in(call, 2)) / divisor(call));
    over_range(call.n * call.ints[0], value_grain, [=](long begin, long end) {
        for (long i = begin; i < end; i++) {
            if (dx) dx[i] = scale * L::by_x(x[i], t[i], a, b);
            if (dt) dt[i] = scale * L::by_t(x[i], t[i], a, b);
        }
    });
}

#define LOSS(name, L) \
    {name, 3, 2, 2, loss<L>, scratch}, { name "_backward", 5, 2, 2, loss_backward<L>, nullptr }

const OpKernel list[] = {
    LOSS("meansquarederror", Square), LOSS("smoothl1", SmoothL1),        LOSS("binarycrossentropy", CrossEntropy),
    LOSS("focalloss", Focal),         LOSS("qualityfocalloss", Quality),
};

}  // namespace

OpList lossvalue_ops() { return op_list(list); }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
