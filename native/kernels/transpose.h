// Transposing blocks of 32-bit elements, four by four in registers.
#pragma once
#include "kernels/vec.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

typedef float Quad __attribute__((vector_size(16)));
typedef float QuadUnaligned __attribute__((vector_size(16), aligned(4), may_alias));

static FOVEA_INLINE Quad load4(const float* p) { return *reinterpret_cast<const QuadUnaligned*>(p); }
static FOVEA_INLINE void store4(float* p, Quad v) { *reinterpret_cast<QuadUnaligned*>(p) = v; }

// out[j * out_stride + i] = in[i * in_stride + j] for a 4x4 block.
static FOVEA_INLINE void transpose4(const float* in, long in_stride, float* out, long out_stride) {
    const Quad a = load4(in), b = load4(in + in_stride), c = load4(in + 2 * in_stride), d = load4(in + 3 * in_stride);
    const Quad ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const Quad cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    store4(out, __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5));
    store4(out + out_stride, __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7));
    store4(out + 2 * out_stride, __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5));
    store4(out + 3 * out_stride, __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7));
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
