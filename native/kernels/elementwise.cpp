// Element-wise ops: activations forward and backward, sums and products, copies, casts.
#include "kernels/families.h"
#include "kernels/op_tools.h"
#include "kernels/vmath.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// An activation: value(x) forward; grad(dy, s) with s what `saved` in the lowering names: the output y, or the input x.
struct Relu {  // s = y
    static FOVEA_INLINE Vec value(Vec x, Vec, Vec) { return at_least(x, Vec{}); }
    static FOVEA_INLINE Vec grad(Vec dy, Vec s, Vec, Vec) { return s > 0.0f ? dy : Vec{}; }
};
struct GuidedRelu : Relu {  // s = y
    static FOVEA_INLINE Vec grad(Vec dy, Vec s, Vec, Vec) { return at_least(s > 0.0f ? dy : Vec{}, Vec{}); }
};
struct DeconvRelu : Relu {
    static FOVEA_INLINE Vec grad(Vec dy, Vec, Vec, Vec) { return at_least(dy, Vec{}); }
};
struct Relu6 {  // s = y
    static FOVEA_INLINE Vec value(Vec x, Vec, Vec) { return at_most(at_least(x, Vec{}), broadcast(6.0f)); }
    static FOVEA_INLINE Vec grad(Vec dy, Vec s, Vec, Vec) {
        const Vec below = s < 6.0f ? dy : Vec{};
        return s > 0.0f ? below : Vec{};
    }
};
struct LeakyRelu {  // s = x
    static FOVEA_INLINE Vec value(Vec x, Vec slope, Vec) { return x > 0.0f ? x : x * slope; }
    static FOVEA_INLINE Vec grad(Vec dy, Vec s, Vec slope, Vec) { return s > 0.0f ? dy : dy * slope; }
};
struct Sigmoid {  // s = y
    static FOVEA_INLINE Vec value(Vec x, Vec, Vec) { return vlogistic(x); }
    static FOVEA_INLINE Vec grad(Vec dy, Vec s, Vec, Vec) { return dy * s * (1.0f - s); }
};
struct Tanh {  // s = y
    static FOVEA_INLINE Vec value(Vec x, Vec, Vec) { return vtanh(x); }
    static FOVEA_INLINE Vec grad(Vec dy, Vec s, Vec, Vec) { return dy * (1.0f - s * s); }
};
struct Silu {  // s = x
    static FOVEA_INLINE Vec value(Vec x, Vec, Vec) { return x * vlogistic(x); }
    static FOVEA_INLINE Vec grad(Vec dy, Vec s, Vec, Vec) {
        const Vec p = vlogistic(s);
        return dy * (p + s * p * (1.0f - p));
    }
};
struct Gelu {  // s = x
    static FOVEA_INLINE Vec value(Vec x, Vec, Vec) { return 0.5f * x * (1.0f + verf(x * 0.70710678f)); }
    static FOVEA_INLINE Vec grad(Vec dy, Vec s, Vec, Vec) {
        const Vec density = 0.39894228f * vexp(-0.5f * s * s);
        return dy * (0.5f * (1.0f + verf(s * 0.70710678f)) + s * density);
    }
};
struct GeluTanh {  // s = x
    static FOVEA_INLINE Vec value(Vec x, Vec, Vec) {
        return 0.5f * x * (1.0f + vtanh(0.79788456f * (x + 0.044715f * x * x * x)));
    }
    static FOVEA_INLINE Vec grad(Vec dy, Vec s, Vec, Vec) {
        const Vec t = vtanh(0.79788456f * (s + 0.044715f * s * s * s));
        const Vec inner = 0.79788456f * (1.0f + 0.134145f * s * s);
        return dy * (0.5f * (1.0f + t) + 0.5f * s * (1.0f - t * t) * inner);
    }
};
struct HardSigmoid {  // s = x
    static FOVEA_INLINE Vec value(Vec x, Vec alpha, Vec beta) {
        return at_most(at_least(x * alpha + beta, Vec{}), broadcast(1.0f));
    }
    static FOVEA_INLINE Vec grad(Vec dy, Vec s, Vec alpha, Vec beta) {
        const Vec line = s * alpha + beta, below = line < 1.0f ? dy * alpha : Vec{};
        return line > 0.0f ? below : Vec{};
    }
};
struct HardSwish {  // s = x
    static FOVEA_INLINE Vec value(Vec x, Vec, Vec) {
        return x * at_most(at_least(x * (1.0f / 6.0f) + 0.5f, Vec{}), broadcast(1.0f));
    }
    static FOVEA_INLINE Vec grad(Vec dy, Vec s, Vec, Vec) {
        const Vec middle = dy * (s * (1.0f / 3.0f) + 0.5f), below = s < 3.0f ? middle : dy;
        return s > -3.0f ? below : Vec{};
    }
};
struct Elu {  // s = x
    static FOVEA_INLINE Vec value(Vec x, Vec alpha, Vec) {
        const Vec below = alpha * vexpm1(at_most(x, Vec{}));
        return x > 0.0f ? x : below;
    }
    static FOVEA_INLINE Vec grad(Vec dy, Vec s, Vec alpha, Vec) {
        const Vec below = dy * alpha * vexp(at_most(s, Vec{}));
        return s > 0.0f ? dy : below;
    }
};
struct Selu {  // s = x
    static FOVEA_INLINE Vec value(Vec x, Vec alpha, Vec gamma) { return gamma * Elu::value(x, alpha, gamma); }
    static FOVEA_INLINE Vec grad(Vec dy, Vec s, Vec alpha, Vec gamma) { return gamma * Elu::grad(dy, s, alpha, gamma); }
};
struct Softplus {  // s = x
    static FOVEA_INLINE Vec value(Vec x, Vec, Vec) { return at_least(x, Vec{}) + vlog1p(vexp(-vabs(x))); }
    static FOVEA_INLINE Vec grad(Vec dy, Vec s, Vec, Vec) { return dy * vlogistic(s); }
};
struct Mish {  // s = x
    static FOVEA_INLINE Vec value(Vec x, Vec a, Vec b) { return x * vtanh(Softplus::value(x, a, b)); }
    static FOVEA_INLINE Vec grad(Vec dy, Vec s, Vec a, Vec b) {
        const Vec t = vtanh(Softplus::value(s, a, b));
        return dy * (t + s * (1.0f - t * t) * vlogistic(s));
    }
};
struct Clip {  // s = x
    static FOVEA_INLINE Vec value(Vec x, Vec low, Vec high) { return at_most(at_least(x, low), high); }
    static FOVEA_INLINE Vec grad(Vec dy, Vec s, Vec low, Vec high) {
        const Vec below = s < high ? dy : Vec{};
        return s > low ? below : Vec{};
    }
};
struct Exp {  // s = y
    static FOVEA_INLINE Vec value(Vec x, Vec, Vec) { return vexp(x); }
    static FOVEA_INLINE Vec grad(Vec dy, Vec s, Vec, Vec) { return dy * s; }
};
struct Log {  // s = x
    static FOVEA_INLINE Vec value(Vec x, Vec, Vec) { return vlog(x); }
    static FOVEA_INLINE Vec grad(Vec dy, Vec s, Vec, Vec) { return dy / s; }
};
struct Sqrt {  // s = y
    static FOVEA_INLINE Vec value(Vec x, Vec, Vec) { return vsqrt(x); }
    static FOVEA_INLINE Vec grad(Vec dy, Vec s, Vec, Vec) { return dy / (2.0f * s); }
};
struct Abs {  // s = x
    static FOVEA_INLINE Vec value(Vec x, Vec, Vec) { return vabs(x); }
    static FOVEA_INLINE Vec grad(Vec dy, Vec s, Vec, Vec) {
        const Vec negative = s < 0.0f ? -dy : Vec{};
        return s > 0.0f ? dy : negative;
    }
};
struct Scale {  // y = a x; not differentiated as such
    static FOVEA_INLINE Vec value(Vec x, Vec a, Vec) { return x * a; }
};

// y, x; ints: floats of one sample; reals: two parameters.
template <class F, class S>
void unary(const OpCall& call) {
    S* y = out<S>(call, 0);
    const S* x = in<S>(call, 1);
    const Vec a = broadcast(call.reals[0]), b = broadcast(call.reals[1]);
    over_range(call.n * call.ints[0], piece_floats, [=](long begin, long end) {
        long i = begin;
        for (; i + VL <= end; i += VL) store(y + i, F::value(load(x + i), a, b));
        const Mask tail = first_lanes(end - i);
        if (i < end) store(y + i, F::value(load(x + i, tail), a, b), tail);
    });
}

// dx, dy, s; ints and reals as unary.
template <class F, class S>
void unary_backward(const OpCall& call) {
    S* dx = out<S>(call, 0);
    const S *dy = in<S>(call, 1), *s = in<S>(call, 2);
    const Vec a = broadcast(call.reals[0]), b = broadcast(call.reals[1]);
    over_range(call.n * call.ints[0], piece_floats, [=](long begin, long end) {
        long i = begin;
        for (; i + VL <= end; i += VL) store(dx + i, F::grad(load(dy + i), load(s + i), a, b));
        const Mask tail = first_lanes(end - i);
        if (i < end) store(dx + i, F::grad(load(dy + i, tail), load(s + i, tail), a, b), tail);
    });
}

// y, a, b; ints: floats of one sample, whether ReLU follows.  y = a + b
template <class S>
void add(const OpCall& call) {
    S* y = out<S>(call, 0);
    const S *a = in<S>(call, 1), *b = in<S>(call, 2);
    const Vec low = broadcast(call.ints[1] ? 0.0f : -__builtin_inff());
    over_range(call.n * call.ints[0], piece_floats, [=](long begin, long end) {
        long i = begin;
        for (; i + VL <= end; i += VL) store(y + i, at_least(load(a + i) + load(b + i), low));
        const Mask tail = first_lanes(end - i);
        if (i < end) store(y + i, at_least(load(a + i, tail) + load(b + i, tail), low), tail);
    });
}

// y; ints: floats of one sample; reals: value.
template <class S>
void fill(const OpCall& call) {
    S* y = out<S>(call, 0);
    const Vec value = broadcast(call.reals[0]);
    over_range(call.n * call.ints[0], piece_floats, [=](long begin, long end) {
        for (long i = begin; i < end; i += VL) store(y + i, value, first_lanes(end - i));
    });
}

// y, x; ints: elements of one sample. From one type of storage to another.
template <class From, class To>
void convert(const OpCall& call) {
    To* y = out<To>(call, 0);
    const From* x = in<From>(call, 1);
    over_range(call.n * call.ints[0], piece_floats, [=](long begin, long end) {
        long i = begin;
        for (; i + VL <= end; i += VL) store(y + i, load(x + i));
        const Mask tail = first_lanes(end - i);
        if (i < end) store(y + i, load(x + i, tail), tail);
    });
}

template <class From, class To>
void cast(const OpCall& call) {  // y, x; ints: elements of one sample
    To* y = static_cast<To*>(call.operand[0]);
    const From* x = static_cast<const From*>(call.operand[1]);
    over_range(call.n * call.ints[0], piece_floats, [=](long begin, long end) {
        for (long i = begin; i < end; i++) y[i] = static_cast<To>(x[i]);
    });
}

// y, x, scale, offset (C each); ints: rows of one sample, C, whether channels are reversed.  y = x[c'] * scale + offset
template <class From, class S>
void normalize(const OpCall& call) {
    S* y = out<S>(call, 0);
    const From* x = static_cast<const From*>(call.operand[1]);
    const float *scale = in(call, 2), *offset = in(call, 3);
    const long width = call.ints[1];
    const bool reversed = call.ints[2] != 0;
    over_rows(call.n * call.ints[0], width, [=](long begin, long end) {
        for (long row = begin; row < end; row++)
            for (long c = 0; c < width; c++) {
                const From value = x[row * width + (reversed ? width - 1 - c : c)];
                put(y + row * width + c, static_cast<float>(value) * scale[c] + offset[c]);
            }
    });
}

#define ACTIVATION(name, F)                                                                                      \
    {name, 2, 1, 2, unary<F, float>, nullptr, operands(0, 1), unary<F, bf16>}, {                                 \
        name "_backward", 3, 1, 2, unary_backward<F, float>, nullptr, operands(0, 1, 2), unary_backward<F, bf16> \
    }

const OpKernel list[] = {
    ACTIVATION("relu", Relu),
    ACTIVATION("relu_guided", GuidedRelu),
    ACTIVATION("relu_deconv", DeconvRelu),
    ACTIVATION("relu6", Relu6),
    ACTIVATION("leakyrelu", LeakyRelu),
    ACTIVATION("sigmoid", Sigmoid),
    ACTIVATION("tanh", Tanh),
    ACTIVATION("silu", Silu),
    ACTIVATION("gelu", Gelu),
    ACTIVATION("gelu_tanh", GeluTanh),
    ACTIVATION("hardsigmoid", HardSigmoid),
    ACTIVATION("hardswish", HardSwish),
    ACTIVATION("elu", Elu),
    ACTIVATION("selu", Selu),
    ACTIVATION("softplus", Softplus),
    ACTIVATION("mish", Mish),
    ACTIVATION("clip", Clip),
    ACTIVATION("exp", Exp),
    ACTIVATION("log", Log),
    ACTIVATION("sqrt", Sqrt),
    ACTIVATION("abs", Abs),
    {"scale", 2, 1, 2, unary<Scale, float>, nullptr, operands(0, 1), unary<Scale, bf16>},
    {"add", 3, 2, 0, add<float>, nullptr, operands(0, 1, 2), add<bf16>},
    {"fill", 1, 1, 1, fill<float>, nullptr, operands(0), fill<bf16>},
    {"narrow", 2, 1, 0, convert<float, bf16>, nullptr},
    {"widen", 2, 1, 0, convert<bf16, float>, nullptr},
    {"cast_uint8", 2, 1, 0, cast<uint8_t, float>, nullptr},
    {"cast_int64", 2, 1, 0, cast<int64_t, float>, nullptr},
    {"cast_index", 2, 1, 0, cast<float, int64_t>, nullptr},
    {"normalize_float32", 4, 3, 0, normalize<float, float>, nullptr, operands(0), normalize<float, bf16>},
    {"normalize_uint8", 4, 3, 0, normalize<uint8_t, float>, nullptr, operands(0), normalize<uint8_t, bf16>},
};

}  // namespace

OpList elementwise_ops() { return op_list(list); }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
