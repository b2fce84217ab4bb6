// The vector type of one instruction set: every kernel is written once with these names, and only VL differs.
// Everything here lives in the namespace of the instruction set: an inline function shared by two of them would be
// merged by the linker into one, compiled for either.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#if defined(__AVX__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define FOVEA_VECTOR_BYTES 64
#elif defined(__AVX__)
#define FOVEA_VECTOR_BYTES 32
#else
#define FOVEA_VECTOR_BYTES 16
#endif

#define FOVEA_INLINE inline __attribute__((always_inline))
#if defined(__clang__)
#define FOVEA_UNROLL _Pragma("clang loop unroll(full)")
#else
#define FOVEA_UNROLL _Pragma("GCC unroll 64")
#endif

namespace fovea::FOVEA_ISA_NAMESPACE {

typedef float Vec __attribute__((vector_size(FOVEA_VECTOR_BYTES)));
typedef int32_t VecInt __attribute__((vector_size(FOVEA_VECTOR_BYTES)));
typedef float VecUnaligned __attribute__((vector_size(FOVEA_VECTOR_BYTES), aligned(4), may_alias));
constexpr int VL = FOVEA_VECTOR_BYTES / 4;
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int VECTOR_REGISTERS = 32;
#else
constexpr int VECTOR_REGISTERS = 16;
#endif

static FOVEA_INLINE Vec load(const float* p) { return *reinterpret_cast<const VecUnaligned*>(p); }
static FOVEA_INLINE void store(float* p, Vec v) { *reinterpret_cast<VecUnaligned*>(p) = v; }
static FOVEA_INLINE Vec broadcast(float x) { return x - Vec{}; }  // folds to one broadcast; keeps -0

// A NaN in `v` stays: the comparison is false and `v` is what is left.
static FOVEA_INLINE Vec at_least(Vec v, Vec low) { return v < low ? low : v; }
static FOVEA_INLINE Vec at_most(Vec v, Vec high) { return v > high ? high : v; }

// The first n lanes (all for n >= VL, none for n <= 0). Loads give 0 in the other lanes and touch no memory there.
#if defined(__SANITIZE_ADDRESS__)  // which does not see what masked instructions touch: one lane after the other
struct Mask {
    int lanes;
};
static FOVEA_INLINE Mask first_lanes(long n) { return {n >= VL ? VL : n <= 0 ? 0 : static_cast<int>(n)}; }
static FOVEA_INLINE Vec load(const float* p, Mask m) {
    Vec v = {};
    for (int i = 0; i < m.lanes; i++) v[i] = p[i];
    return v;
}
static FOVEA_INLINE void store(float* p, Vec v, Mask m) {
    for (int i = 0; i < m.lanes; i++) p[i] = v[i];
}
#elif FOVEA_VECTOR_BYTES == 64
typedef __mmask16 Mask;
static FOVEA_INLINE Mask first_lanes(long n) {
    return static_cast<Mask>(n >= VL ? 0xffff : n <= 0 ? 0 : (1u << n) - 1);
}
static FOVEA_INLINE Vec load(const float* p, Mask m) { return reinterpret_cast<Vec>(_mm512_maskz_loadu_ps(m, p)); }
static FOVEA_INLINE void store(float* p, Vec v, Mask m) { _mm512_mask_storeu_ps(p, m, reinterpret_cast<__m512>(v)); }
#elif FOVEA_VECTOR_BYTES == 32
typedef __m256i Mask;
static FOVEA_INLINE Mask first_lanes(long n) {
    const int lanes = n >= VL ? VL : n <= 0 ? 0 : static_cast<int>(n);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static FOVEA_INLINE Vec load(const float* p, Mask m) { return reinterpret_cast<Vec>(_mm256_maskload_ps(p, m)); }
static FOVEA_INLINE void store(float* p, Vec v, Mask m) { _mm256_maskstore_ps(p, m, reinterpret_cast<__m256>(v)); }
#else
struct Mask {
    int lanes;
};
static FOVEA_INLINE Mask first_lanes(long n) { return {n >= VL ? VL : n <= 0 ? 0 : static_cast<int>(n)}; }
static FOVEA_INLINE Vec load(const float* p, Mask m) {
    if (m.lanes == VL) return load(p);
    Vec v = {};
    if (m.lanes > 0) v[0] = p[0];
    if (m.lanes > 1) v[1] = p[1];
    if (m.lanes > 2) v[2] = p[2];
    return v;
}
static FOVEA_INLINE void store(float* p, Vec v, Mask m) {
    if (m.lanes == VL) return store(p, v);
    if (m.lanes > 0) p[0] = v[0];
    if (m.lanes > 1) p[1] = v[1];
    if (m.lanes > 2) p[2] = v[2];
}
#endif

// a * b + c where only the lower half of the lanes counts: where a vector is computed in two halves, half of the time.
static FOVEA_INLINE Vec multiply_add_low(Vec a, Vec b, Vec c) {
#if FOVEA_VECTOR_BYTES == 64
    const auto low = [](Vec v) { return _mm512_castps512_ps256(reinterpret_cast<__m512>(v)); };
    return reinterpret_cast<Vec>(_mm512_castps256_ps512(_mm256_fmadd_ps(low(a), low(b), low(c))));
#else
    return a * b + c;
#endif
}
constexpr bool has_low_half = FOVEA_VECTOR_BYTES == 64;

// Sum of the lanes in a fixed order (halves added, again and again).
static FOVEA_INLINE float sum_lanes(Vec v) {
    alignas(FOVEA_VECTOR_BYTES) float lane[VL];
    *reinterpret_cast<Vec*>(lane) = v;
    for (int width = VL / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++) lane[i] += lane[i + width];
    return lane[0];
}

// std::min and std::max are weak symbols when they are not inlined: these are not.
template <class T>
static FOVEA_INLINE T min_of(T a, T b) {
    return b < a ? b : a;
}
template <class T>
static FOVEA_INLINE T max_of(T a, T b) {
    return a < b ? b : a;
}
static FOVEA_INLINE long ceil_div(long a, long b) { return (a + b - 1) / b; }
static FOVEA_INLINE long round_up(long a, long b) { return ceil_div(a, b) * b; }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
