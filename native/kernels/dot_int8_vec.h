// Bytes in vectors: sums of products of uint8 with int8, and rounding back to bytes. Results are the same numbers for
// every instruction set: sums are exact, and files that include this are compiled without contraction of a * b + c.
#pragma once
#include "kernels/vec.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

typedef uint32_t VecWords __attribute__((vector_size(FOVEA_VECTOR_BYTES)));
typedef int16_t VecShorts __attribute__((vector_size(FOVEA_VECTOR_BYTES)));
typedef uint16_t VecUnsignedShorts __attribute__((vector_size(FOVEA_VECTOR_BYTES)));
typedef uint8_t VecBytes __attribute__((vector_size(FOVEA_VECTOR_BYTES)));
typedef int32_t VecIntUnaligned __attribute__((vector_size(FOVEA_VECTOR_BYTES), aligned(1), may_alias));
typedef uint8_t LaneBytes __attribute__((vector_size(FOVEA_VECTOR_BYTES / 4)));
typedef uint8_t LaneBytesUnaligned __attribute__((vector_size(FOVEA_VECTOR_BYTES / 4), aligned(1), may_alias));

static FOVEA_INLINE VecInt load_int(const void* p) { return *static_cast<const VecIntUnaligned*>(p); }
static FOVEA_INLINE void store_int(void* p, VecInt v) { *static_cast<VecIntUnaligned*>(p) = v; }
static FOVEA_INLINE VecInt same_int(int x) { return x - VecInt{}; }
static FOVEA_INLINE VecInt load_int(const int32_t* p, Mask m) {
    return reinterpret_cast<VecInt>(load(reinterpret_cast<const float*>(p), m));
}

// --- sums of four products: lane i of dot(sum, x, w) is sum[i] + x[4i] w[4i] + ... + x[4i + 3] w[4i + 3], exact

#if defined(__AVX512VNNI__)
typedef VecInt Pixels;
typedef VecInt Weights;
static FOVEA_INLINE Pixels pixels_of(VecInt x) { return x; }
static FOVEA_INLINE Weights weights_of(VecInt w) { return w; }
static FOVEA_INLINE VecInt dot(VecInt sum, Pixels x, Weights w) {
    return reinterpret_cast<VecInt>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(x),
                                                        reinterpret_cast<__m512i>(w)));
}
#else
// Bytes widened to pairs of 16 bits: the products of a pair are added in 32 bits, where nothing saturates.
struct Pixels {
    VecInt even, odd;
};
typedef Pixels Weights;
static FOVEA_INLINE Pixels pixels_of(VecInt x) {
    return {x & 0x00ff00ff, reinterpret_cast<VecInt>(reinterpret_cast<VecUnsignedShorts>(x) >> 8)};
}
static FOVEA_INLINE Weights weights_of(VecInt w) {
    const VecShorts s = reinterpret_cast<VecShorts>(w);
    return {reinterpret_cast<VecInt>(reinterpret_cast<VecShorts>(reinterpret_cast<VecUnsignedShorts>(w) << 8) >> 8),
            reinterpret_cast<VecInt>(s >> 8)};
}
static FOVEA_INLINE VecInt pair_products(VecInt a, VecInt b) {
#if defined(__AVX512BW__)
    return reinterpret_cast<VecInt>(_mm512_madd_epi16(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX2__)
    return reinterpret_cast<VecInt>(_mm256_madd_epi16(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#else
    const VecInt low_a = reinterpret_cast<VecInt>(reinterpret_cast<VecWords>(a) << 16) >> 16;
    const VecInt low_b = reinterpret_cast<VecInt>(reinterpret_cast<VecWords>(b) << 16) >> 16;
    return low_a * low_b + (a >> 16) * (b >> 16);
#endif
}
static FOVEA_INLINE VecInt dot(VecInt sum, Pixels x, Weights w) {
    return sum + pair_products(x.even, w.even) + pair_products(x.odd, w.odd);
}
#endif

// --- bytes to lanes and back

// Widening by name: compilers take __builtin_convertvector of bytes apart, lane by lane.
static FOVEA_INLINE VecInt widened(LaneBytes v) {
#if defined(__AVX512BW__)
    return reinterpret_cast<VecInt>(_mm512_maskz_cvtepu8_epi32(0xffff, reinterpret_cast<__m128i>(v)));
#elif defined(__AVX2__)
    __m128i low = _mm_setzero_si128();
    std::memcpy(&low, &v, sizeof v);
    return reinterpret_cast<VecInt>(_mm256_cvtepu8_epi32(low));
#else
    return __builtin_convertvector(v, VecInt);
#endif
}
static FOVEA_INLINE VecInt load_bytes(const uint8_t* p) {
    return widened(*reinterpret_cast<const LaneBytesUnaligned*>(p));
}
static FOVEA_INLINE void store_bytes(uint8_t* p, VecInt v) {
    *reinterpret_cast<LaneBytesUnaligned*>(p) = __builtin_convertvector(v, LaneBytes);
}
// The first lanes; the others are 0, and their memory is not touched.
static FOVEA_INLINE VecInt load_bytes(const uint8_t* p, long lanes) {
    if (lanes >= VL) return load_bytes(p);
#if defined(__AVX512BW__) && defined(__AVX512VL__) && !defined(__SANITIZE_ADDRESS__)
    return widened(reinterpret_cast<LaneBytes>(_mm_maskz_loadu_epi8(first_lanes(lanes), p)));
#else
    VecInt v = {};
    for (long i = 0; i < lanes; i++) v[i] = p[i];
    return v;
#endif
}
static FOVEA_INLINE void store_bytes(uint8_t* p, VecInt v, long lanes) {
    if (lanes >= VL) return store_bytes(p, v);
#if defined(__AVX512BW__) && defined(__AVX512VL__) && !defined(__SANITIZE_ADDRESS__)
    _mm_mask_storeu_epi8(p, first_lanes(lanes), reinterpret_cast<__m128i>(__builtin_convertvector(v, LaneBytes)));
#else
    for (long i = 0; i < lanes; i++) p[i] = static_cast<uint8_t>(v[i]);
#endif
}

// A block of channels is a vector of bytes.
constexpr int block = 4 * VL;
static FOVEA_INLINE VecInt load_block(const uint8_t* p, long channels) {
    if (channels >= block) return load_int(p);
#if defined(__AVX512BW__) && !defined(__SANITIZE_ADDRESS__)
    return reinterpret_cast<VecInt>(_mm512_maskz_loadu_epi8((1ull << channels) - 1, p));
#else
    VecInt v = {};
    std::memcpy(&v, p, static_cast<size_t>(channels));
    return v;
#endif
}

static FOVEA_INLINE void store_block(uint8_t* p, VecInt v, long channels) {
    if (channels >= block) return store_int(p, v);
#if defined(__AVX512BW__) && !defined(__SANITIZE_ADDRESS__)
    _mm512_mask_storeu_epi8(p, (1ull << channels) - 1, reinterpret_cast<__m512i>(v));
#else
    std::memcpy(p, &v, static_cast<size_t>(channels));
#endif
}

// --- rounding

static FOVEA_INLINE Vec to_float(VecInt v) { return __builtin_convertvector(v, Vec); }

// How sums become bytes: clamp(y, low, high) rounded half to even, plus the zero point. |low|, |high| <= 255.
struct Rounding {
    Vec low, high;
    VecInt offset;
    int zero;
};
// 1.5 * 2^23: adding it leaves the rounded number in the low bits of the sum.
constexpr float rounder = 12582912.0f;
constexpr int rounder_bits = 0x4b400000;

static FOVEA_INLINE Rounding rounding(float low, float high, int zero) {
    return {broadcast(low), broadcast(high), same_int(zero - rounder_bits), zero};
}
static FOVEA_INLINE VecInt to_byte_lanes(Vec y, const Rounding& r) {
    return reinterpret_cast<VecInt>(at_most(at_least(y, r.low), r.high) + rounder) + r.offset;
}

// V neighbouring vectors to bytes, rounded. Four are joined before they are stored: clamped numbers fit their
// conversion to integers, which rounds half to even as well.
template <int V>
static FOVEA_INLINE void store_rounded(uint8_t* to, const Vec (&y)[V], const Rounding& r) {
#if defined(__AVX512BW__)
    if constexpr (V == 4) {
        __m512i q[4];
        FOVEA_UNROLL
        for (int j = 0; j < 4; j++)
            q[j] = _mm512_maskz_cvtps_epi32(0xffff, reinterpret_cast<__m512>(at_most(at_least(y[j], r.low), r.high)));
        const __m512i zero = _mm512_set1_epi16(static_cast<int16_t>(r.zero));
        const __m512i front = _mm512_add_epi16(_mm512_packs_epi32(q[0], q[1]), zero);
        const __m512i back = _mm512_add_epi16(_mm512_packs_epi32(q[2], q[3]), zero);
        const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        const __m512i bytes = _mm512_maskz_permutexvar_epi32(0xffff, order, _mm512_packus_epi16(front, back));
        return store_int(to, reinterpret_cast<VecInt>(bytes));
    }
#endif
    FOVEA_UNROLL
    for (int j = 0; j < V; j++) store_bytes(to + j * VL, to_byte_lanes(y[j], r));
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
