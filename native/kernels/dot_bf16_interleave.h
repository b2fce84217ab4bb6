// Copies of bf16 activations in pairs: the same element of two pixels in one word.
#pragma once
#include "kernels/dot_bf16.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

static FOVEA_INLINE void put_pairs(Pair* out, VecPairs a, Vec b) {
    store_pairs(out, a | reinterpret_cast<VecPairs>(b));
}

// out[i * width + channel] = (a, b) of pixel i < count, whose `channels` are filled up with 0 to the width, whole
// vectors. b has pixels i < second and is 0 from there on.
static inline void interleave_pixels(const bf16* a, const bf16* b, long pixel, long count, long second, int channels,
                                     int width, Pair* out) {
    const int whole = channels / VL * VL;
    const Mask rest = first_lanes(channels - whole);
    for (long i = 0; i < count; i++, a += pixel, b += pixel, out += width) {
        const bool both = i < second;
        int j = 0;
        for (; j < whole; j += VL) put_pairs(out + j, load_bits(a + j), both ? load(b + j) : Vec{});
        if (j < channels)
            put_pairs(out + j, reinterpret_cast<VecPairs>(load(a + j, rest)) >> 16, both ? load(b + j, rest) : Vec{});
        for (j = static_cast<int>(round_up(channels, VL)); j < width; j += VL) store_pairs(out + j, VecPairs{});
    }
}

// The same for one run of elements; without `both`, b is 0.
static inline void interleave_run(const bf16* a, const bf16* b, bool both, long count, Pair* out) {
    for (long i = 0; i < count; i += VL) {
        const Mask mask = first_lanes(count - i);
        const VecPairs low = reinterpret_cast<VecPairs>(load(a + i, mask)) >> 16;
        const VecPairs high = both ? reinterpret_cast<VecPairs>(load(b + i, mask)) : VecPairs{};
        store(reinterpret_cast<float*>(out + i), reinterpret_cast<Vec>(low | high), mask);
    }
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
