// Bytes and numbers of 16 bits within runs of 16 bytes, as instructions interleave and join them: what is taken apart
// by low_* and high_* lies in its old order when it is joined again.
//   saturated: both as int8, clamped; saturated_unsigned: as uint8; scaled: v * factor / 2^15, rounded half up.
#pragma once
#include "kernels/dot_int8_vec.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

#if defined(__AVX512BW__)
#define FOVEA_LANEWISE(name) _mm512_##name
typedef __m512i Register;
#elif defined(__AVX2__)
#define FOVEA_LANEWISE(name) _mm256_##name
typedef __m256i Register;
#endif
#if defined(FOVEA_LANEWISE)
static FOVEA_INLINE Register reg(VecInt v) { return reinterpret_cast<Register>(v); }
static FOVEA_INLINE VecInt low_bytes(VecInt a, VecInt b) {
    return reinterpret_cast<VecInt>(FOVEA_LANEWISE(unpacklo_epi8)(reg(a), reg(b)));
}
static FOVEA_INLINE VecInt high_bytes(VecInt a, VecInt b) {
    return reinterpret_cast<VecInt>(FOVEA_LANEWISE(unpackhi_epi8)(reg(a), reg(b)));
}
static FOVEA_INLINE VecInt low_pairs(VecInt a, VecInt b) {
    return reinterpret_cast<VecInt>(FOVEA_LANEWISE(unpacklo_epi16)(reg(a), reg(b)));
}
static FOVEA_INLINE VecInt high_pairs(VecInt a, VecInt b) {
    return reinterpret_cast<VecInt>(FOVEA_LANEWISE(unpackhi_epi16)(reg(a), reg(b)));
}
static FOVEA_INLINE VecInt joined(const VecInt q[4]) {
    return reinterpret_cast<VecInt>(FOVEA_LANEWISE(packus_epi16)(FOVEA_LANEWISE(packs_epi32)(reg(q[0]), reg(q[1])),
                                                                 FOVEA_LANEWISE(packs_epi32)(reg(q[2]), reg(q[3]))));
}
static FOVEA_INLINE VecInt saturated(VecShorts a, VecShorts b) {
    return reinterpret_cast<VecInt>(
        FOVEA_LANEWISE(packs_epi16)(reinterpret_cast<Register>(a), reinterpret_cast<Register>(b)));
}
static FOVEA_INLINE VecInt saturated_unsigned(VecShorts a, VecShorts b) {
    return reinterpret_cast<VecInt>(
        FOVEA_LANEWISE(packus_epi16)(reinterpret_cast<Register>(a), reinterpret_cast<Register>(b)));
}
static FOVEA_INLINE VecShorts scaled(VecShorts v, int16_t factor) {
    return reinterpret_cast<VecShorts>(
        FOVEA_LANEWISE(mulhrs_epi16)(reinterpret_cast<Register>(v), FOVEA_LANEWISE(set1_epi16)(factor)));
}
#else
static FOVEA_INLINE VecInt low_bytes(VecInt a, VecInt b) {
    return reinterpret_cast<VecInt>(__builtin_shufflevector(reinterpret_cast<VecBytes>(a),
                                                            reinterpret_cast<VecBytes>(b), 0, 16, 1, 17, 2, 18, 3, 19,
                                                            4, 20, 5, 21, 6, 22, 7, 23));
}
static FOVEA_INLINE VecInt high_bytes(VecInt a, VecInt b) {
    return reinterpret_cast<VecInt>(__builtin_shufflevector(reinterpret_cast<VecBytes>(a),
                                                            reinterpret_cast<VecBytes>(b), 8, 24, 9, 25, 10, 26, 11, 27,
                                                            12, 28, 13, 29, 14, 30, 15, 31));
}
static FOVEA_INLINE VecInt low_pairs(VecInt a, VecInt b) {
    return reinterpret_cast<VecInt>(__builtin_shufflevector(reinterpret_cast<VecShorts>(a),
                                                            reinterpret_cast<VecShorts>(b), 0, 8, 1, 9, 2, 10, 3, 11));
}
static FOVEA_INLINE VecInt high_pairs(VecInt a, VecInt b) {
    return reinterpret_cast<VecInt>(__builtin_shufflevector(
        reinterpret_cast<VecShorts>(a), reinterpret_cast<VecShorts>(b), 4, 12, 5, 13, 6, 14, 7, 15));
}
static FOVEA_INLINE VecInt joined(const VecInt q[4]) {
    VecInt v;
    uint8_t* bytes = reinterpret_cast<uint8_t*>(&v);
    for (int j = 0; j < 4; j++) store_bytes(bytes + j * VL, q[j]);
    return v;
}
template <int low, int high>
static FOVEA_INLINE VecInt clamped(VecShorts a, VecShorts b) {
    VecInt v;
    int8_t* to = reinterpret_cast<int8_t*>(&v);
    for (int i = 0; i < 2 * VL; i++) {
        to[i] = static_cast<int8_t>(min_of<int>(max_of<int>(a[i], low), high));
        to[2 * VL + i] = static_cast<int8_t>(min_of<int>(max_of<int>(b[i], low), high));
    }
    return v;
}
static FOVEA_INLINE VecInt saturated(VecShorts a, VecShorts b) { return clamped<-128, 127>(a, b); }
static FOVEA_INLINE VecInt saturated_unsigned(VecShorts a, VecShorts b) { return clamped<0, 255>(a, b); }
static FOVEA_INLINE VecShorts scaled(VecShorts v, int16_t factor) {
    for (int i = 0; i < 2 * VL; i++) v[i] = static_cast<int16_t>((v[i] * factor + (1 << 14)) >> 15);
    return v;
}
#endif

}  // namespace fovea::FOVEA_ISA_NAMESPACE
