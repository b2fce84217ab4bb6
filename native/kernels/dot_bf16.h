// The bf16 dot product of vectors: sums of 32-bit lanes, each fed by a pair of neighbouring bf16 numbers.
#pragma once
#include "kernels/bf16.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

// Two bf16 numbers in one 32-bit element: the one of the lower index in the lower half.
using Pair = uint32_t;
using VecPairs = VecBits;
typedef uint32_t VecPairsUnaligned __attribute__((vector_size(FOVEA_VECTOR_BYTES), aligned(4), may_alias));

static FOVEA_INLINE VecPairs load_pairs(const Pair* p) { return *reinterpret_cast<const VecPairsUnaligned*>(p); }
static FOVEA_INLINE void store_pairs(Pair* p, VecPairs v) { *reinterpret_cast<VecPairsUnaligned*>(p) = v; }
static FOVEA_INLINE VecPairs broadcast_pair(Pair x) { return x - VecPairs{}; }

static FOVEA_INLINE Pair pair_at(const bf16* p) {
    Pair pair;
    __builtin_memcpy(&pair, p, sizeof pair);
    return pair;
}

// Two vectors, rounded, as pairs.
static FOVEA_INLINE VecPairs interleave(Vec low, Vec high) {
#if defined(__AVX512BF16__)
    const __m512bh both = _mm512_cvtne2ps_pbh(reinterpret_cast<__m512>(high), reinterpret_cast<__m512>(low));
    alignas(64) static constexpr uint16_t order[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                       8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return reinterpret_cast<VecPairs>(
        _mm512_permutexvar_epi16(_mm512_load_si512(order), reinterpret_cast<__m512i>(both)));
#else
    return __builtin_convertvector(narrow(low), VecBits) | __builtin_convertvector(narrow(high), VecBits) << 16;
#endif
}

// sum + a.high * b.high + a.low * b.low
static FOVEA_INLINE Vec dot(Vec sum, VecPairs a, VecPairs b) {
#if defined(__AVX512BF16__)
    return reinterpret_cast<Vec>(
        _mm512_dpbf16_ps(reinterpret_cast<__m512>(sum), reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b)));
#else
    const Vec high = sum + reinterpret_cast<Vec>(a & 0xffff0000u) * reinterpret_cast<Vec>(b & 0xffff0000u);
    return high + reinterpret_cast<Vec>(a << 16) * reinterpret_cast<Vec>(b << 16);
#endif
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
