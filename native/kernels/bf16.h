// bfloat16 in memory, float32 in registers: the loads and stores of vec.h for arrays of bf16.
// Stores round to nearest, ties to even; a NaN stays one (quiet), infinities and the sign of 0 stay.
#pragma once
#include "kernels/storage.h"
#include "kernels/vec.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

typedef uint32_t VecBits __attribute__((vector_size(FOVEA_VECTOR_BYTES)));
typedef uint16_t VecHalf __attribute__((vector_size(FOVEA_VECTOR_BYTES / 2)));
typedef uint16_t VecHalfUnaligned __attribute__((vector_size(FOVEA_VECTOR_BYTES / 2), aligned(2), may_alias));

// Widening by name: compilers make six instructions of __builtin_convertvector where the CPU has one.
static FOVEA_INLINE VecBits widen_bits(VecHalf h) {
#if FOVEA_VECTOR_BYTES == 64
    return reinterpret_cast<VecBits>(_mm512_maskz_cvtepu16_epi32(0xffff, reinterpret_cast<__m256i>(h)));
#elif defined(__AVX2__)
    return reinterpret_cast<VecBits>(_mm256_cvtepu16_epi32(reinterpret_cast<__m128i>(h)));
#else
    return __builtin_convertvector(h, VecBits);
#endif
}
static FOVEA_INLINE Vec widen(VecHalf h) { return reinterpret_cast<Vec>(widen_bits(h) << 16); }

static FOVEA_INLINE VecHalf narrow(Vec v) {
#if defined(__AVX512BF16__)
    return reinterpret_cast<VecHalf>(_mm512_cvtneps_pbh(reinterpret_cast<__m512>(v)));
#else
    const VecBits bits = reinterpret_cast<VecBits>(v);
    const VecBits rounded = bits + 0x7fffu + (bits >> 16 & 1u);  // carries into the exponent where it must
    const VecBits chosen = v != v ? bits | 0x400000u : rounded;
    return __builtin_convertvector(chosen >> 16, VecHalf);
#endif
}

static FOVEA_INLINE VecBits load_bits(const bf16* p) {  // each in the lower half of its lane
    return widen_bits(*reinterpret_cast<const VecHalfUnaligned*>(p));
}
static FOVEA_INLINE Vec load(const bf16* p) { return widen(*reinterpret_cast<const VecHalfUnaligned*>(p)); }
static FOVEA_INLINE void store(bf16* p, Vec v) { *reinterpret_cast<VecHalfUnaligned*>(p) = narrow(v); }

// The first lanes, as in vec.h: 0 in the others, whose memory is not touched.
#if FOVEA_VECTOR_BYTES == 64 && !defined(__SANITIZE_ADDRESS__)
static FOVEA_INLINE Vec load(const bf16* p, Mask m) {
    return widen(reinterpret_cast<VecHalf>(_mm256_maskz_loadu_epi16(m, p)));
}
static FOVEA_INLINE void store(bf16* p, Vec v, Mask m) {
    _mm256_mask_storeu_epi16(p, m, reinterpret_cast<__m256i>(narrow(v)));
}
#else
#if FOVEA_VECTOR_BYTES == 32 && !defined(__SANITIZE_ADDRESS__)
static FOVEA_INLINE int lane_count(Mask m) {
    return __builtin_popcount(static_cast<unsigned>(_mm256_movemask_ps(reinterpret_cast<__m256>(m))));
}
#else
static FOVEA_INLINE int lane_count(Mask m) { return m.lanes; }
#endif
static FOVEA_INLINE Vec load(const bf16* p, Mask m) {
    const int lanes = lane_count(m);
    if (lanes == VL) return load(p);
    VecHalf h = {};
    for (int i = 0; i < lanes; i++) h[i] = p[i];
    return widen(h);
}
static FOVEA_INLINE void store(bf16* p, Vec v, Mask m) {
    const int lanes = lane_count(m);
    if (lanes == VL) return store(p, v);
    const VecHalf h = narrow(v);
    for (int i = 0; i < lanes; i++) p[i] = h[i];
}
#endif

// One value, for scalar tails and constants.
static FOVEA_INLINE float to_float(bf16 x) {
    const uint32_t bits = static_cast<uint32_t>(x) << 16;
    float value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}
static FOVEA_INLINE bf16 to_bf16(float x) {
    uint32_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    const uint32_t chosen = x != x ? bits | 0x400000u : bits + 0x7fffu + (bits >> 16 & 1u);
    return static_cast<bf16>(chosen >> 16);
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
