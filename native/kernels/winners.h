// Which tap of a window won a max-pooling: stored for backward as 32-bit numbers, or as bytes where that is enough.
#pragma once
#include "kernels/vec.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

// Where the winners of VL channels go: as 32-bit numbers, or as bytes.
static FOVEA_INLINE void store_winners(int32_t* to, VecInt where, long lanes) {
    if (lanes >= VL) {
        __builtin_memcpy(to, &where, sizeof where);
    } else {
        for (long i = 0; i < lanes; i++) to[i] = where[i];
    }
}
typedef uint8_t Bytes __attribute__((vector_size(VL)));
static FOVEA_INLINE void store_winners(uint8_t* to, VecInt where, long lanes) {
    const Bytes bytes = __builtin_convertvector(where, Bytes);
    if (lanes >= VL) {
        __builtin_memcpy(to, &bytes, VL);
    } else {
        for (long i = 0; i < lanes; i++) to[i] = bytes[i];
    }
}

// Read back, 0 in the lanes behind. What has its lanes set one by one lies in memory: the full vector stays apart.
static FOVEA_INLINE VecInt widen(VecInt where) { return where; }
static FOVEA_INLINE VecInt widen(Bytes where) { return __builtin_convertvector(where, VecInt); }
template <class Several, class Index>
static FOVEA_INLINE VecInt winners(const Index* index, long lanes) {
    if (lanes >= VL) {
        Several full;
        __builtin_memcpy(&full, index, sizeof full);
        return widen(full);
    }
    VecInt some = {};
    for (long i = 0; i < lanes; i++) some[i] = index[i];
    return some;
}
static FOVEA_INLINE VecInt winners(const int32_t* index, long lanes) { return winners<VecInt>(index, lanes); }
static FOVEA_INLINE VecInt winners(const uint8_t* index, long lanes) {
#if FOVEA_VECTOR_BYTES == 64 && !defined(__SANITIZE_ADDRESS__)
    const Mask mask = first_lanes(lanes);
    return reinterpret_cast<VecInt>(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, index)));
#else
    return winners<Bytes>(index, lanes);
#endif
}

// The largest of a window of four, the first of equals; a NaN wins and stays.
static FOVEA_INLINE Vec largest(const Vec (&in)[4]) {
    Vec best = in[0];
    FOVEA_UNROLL
    for (int i = 1; i < 4; i++) {
        const Vec most = best >= in[i] ? best : in[i];
        best = best == best ? most : best;
    }
    return best;
}
// Its number. Who has its bits first is the first that has its value: a NaN is no number's equal, but its own.
static FOVEA_INLINE VecInt first_winner(const Vec (&in)[4], Vec best) {
    const VecInt bits = reinterpret_cast<VecInt>(best);
    VecInt winner = VecInt{} + 3;
    FOVEA_UNROLL
    for (int i = 2; i >= 0; i--) winner = reinterpret_cast<VecInt>(in[i]) == bits ? VecInt{} + i : winner;
    return winner;
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
