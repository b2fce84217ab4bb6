// exp, tanh, logistic and error function on vectors, accurate to a few units in the last place.
#pragma once
#include "kernels/vec.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

// exp(x) = 2^k exp(r), |r| <= ln(2) / 2, exp(r) by its Taylor polynomial of degree 7 (remainder below 1e-8).
static FOVEA_INLINE Vec vexp(Vec x) {
    const Vec bounded = at_most(at_least(x, broadcast(-87.0f)), broadcast(88.0f));
    const Vec shifted = bounded * 1.44269504f + 12582912.0f;  // adding 1.5 * 2^23 rounds to an integer
    const Vec k = shifted - 12582912.0f;
    const Vec r = (bounded - k * 0.693145752f) - k * 1.42860677e-6f;
    Vec p = broadcast(1.0f / 5040.0f);
    p = p * r + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    const VecInt exponent = (reinterpret_cast<VecInt>(shifted) + 127) << 23;  // the low bits of `shifted` hold k
    const Vec result = p * reinterpret_cast<Vec>(exponent);
    const Vec large = x > 88.7f ? broadcast(__builtin_inff()) : result;
    return x < -87.0f ? Vec{} : large;
}

static FOVEA_INLINE Vec vabs(Vec x) { return x < 0.0f ? -x : x; }

// log(x) = k ln 2 + log(m), m in [sqrt(1/2), sqrt(2)), with t = (m - 1) / (m + 1): log(m) = 2 (t + t^3 / 3 + ...).
static FOVEA_INLINE Vec vlog(Vec x) {
    const VecInt bits = reinterpret_cast<VecInt>(x);
    const VecInt k = (bits - 0x3f3504f3) >> 23;  // 0x3f3504f3: the square root of 1/2
    const Vec m = reinterpret_cast<Vec>(bits - (k << 23)), t = (m - 1.0f) / (m + 1.0f), s = t * t;
    Vec p = broadcast(2.0f / 9.0f);
    p = p * s + 2.0f / 7.0f;
    p = p * s + 2.0f / 5.0f;
    p = p * s + 2.0f / 3.0f;
    const Vec exponent = __builtin_convertvector(k, Vec);
    const Vec value = exponent * 0.693145752f + (2.0f * t + (p * s * t + exponent * 1.42860677e-6f));
    const Vec infinity = broadcast(__builtin_inff());
    const Vec finite = x < infinity ? value : x;                       // infinity, not a number
    const Vec positive = x > 0.0f ? finite : infinity - infinity + x;  // not a number below 0
    return x == 0.0f ? -infinity : positive;
}

// log(1 + e), 0 <= e <= 1, with the digits of e that 1 + e rounds away.
static FOVEA_INLINE Vec vlog1p(Vec e) {
    const Vec u = 1.0f + e;
    return vlog(u) - ((u - 1.0f) - e) / u;
}

static FOVEA_INLINE Vec vsqrt(Vec x) {
    Vec y;
    for (int i = 0; i < VL; i++) y[i] = __builtin_sqrtf(x[i]);
    return y;
}

// exp(x) - 1 for x <= 0: near 0 as tanh(x / 2) (exp(x) + 1), which does not cancel.
static FOVEA_INLINE Vec vtanh(Vec x);
static FOVEA_INLINE Vec vexpm1(Vec x) {
    const Vec e = vexp(x);
    return x > -0.5f ? vtanh(0.5f * x) * (e + 1.0f) : e - 1.0f;
}

static FOVEA_INLINE Vec vlogistic(Vec x) {
    const Vec e = vexp(-vabs(x));  // in (0, 1]: no overflow on either side
    const Vec small = e / (1.0f + e);
    return x < 0.0f ? small : 1.0f - small;
}

// Near 0 the odd Taylor-like polynomial (Cephes' coefficients, |x| < 0.625), else through exp.
static FOVEA_INLINE Vec vtanh(Vec x) {
    const Vec s = x * x;
    Vec p = broadcast(-5.70498872745e-3f);
    p = p * s + 2.06390887954e-2f;
    p = p * s - 5.37397155531e-2f;
    p = p * s + 1.33314422036e-1f;
    p = p * s - 3.33332819422e-1f;
    const Vec near = p * s * x + x;
    const Vec e = vexp(-2.0f * vabs(x));
    const Vec far = (1.0f - e) / (1.0f + e);
    const Vec signed_far = x < 0.0f ? -far : far;
    return vabs(x) < 0.625f ? near : signed_far;
}

// erf(x) = x p(x^2) for |x| < 1, else sign(x) (1 - exp(-x^2) q(1 / (1 + |x| / 2))); p and q interpolate at Chebyshev
// nodes. Error below 1.8e-7, relative below 1 and absolute above.
static FOVEA_INLINE Vec verf(Vec x) {
    constexpr float p[] = {-9.673591193859465e-06f, 0.00011268253729213029f, -0.0008484396385028958f,
                           0.005221053492277861f,   -0.026865437626838684f,  0.11283782869577408f,
                           -0.37612637877464294f,   1.128379225730896f};
    constexpr float q[] = {-0.08468787372112274f, 0.3940534293651581f,    -0.6884657144546509f, 0.4862183928489685f,
                           -0.1595841646194458f,  0.25688037276268005f,   0.22906038165092468f, 0.28459781408309937f,
                           0.28189241886138916f,  7.0592036536254454e-06f};
    const Vec magnitude = vabs(x), square = x * x, u = 1.0f / (1.0f + 0.5f * magnitude);
    Vec inside = broadcast(p[0]), outside = broadcast(q[0]);
    FOVEA_UNROLL
    for (int i = 1; i < 8; i++) inside = inside * square + p[i];
    FOVEA_UNROLL
    for (int i = 1; i < 10; i++) outside = outside * u + q[i];
    const Vec far = 1.0f - vexp(-square) * outside, signed_far = x < 0.0f ? -far : far;
    return magnitude < 1.0f ? inside * x : signed_far;
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
