// From planes to channels-last: VL pixels of each of C channels become C * VL floats in which channels follow each
// other. Also the halves of pairs: even and odd lanes. Permutations are constants, so one source serves every set.
#pragma once
#include <utility>

#include "kernels/vec.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

// Lane l of the result is lane Pick::lane(l) of a and b joined.
template <class Pick, int... L>
static FOVEA_INLINE Vec pick_lanes(Vec a, Vec b, std::integer_sequence<int, L...>) {
#if __has_builtin(__builtin_shufflevector)
    return __builtin_shufflevector(a, b, Pick::lane(L)...);
#else
    return __builtin_shuffle(a, b, VecInt{Pick::lane(L)...});
#endif
}
template <class Pick>
static FOVEA_INLINE Vec pick_lanes(Vec a, Vec b) {
    return pick_lanes<Pick>(a, b, std::make_integer_sequence<int, VL>{});
}

struct EvenLanes {
    static constexpr int lane(int l) { return 2 * l; }
};
struct OddLanes {
    static constexpr int lane(int l) { return 2 * l + 1; }
};
struct ZipLow {
    static constexpr int lane(int l) { return l / 2 + l % 2 * VL; }
};
struct ZipHigh {
    static constexpr int lane(int l) { return VL / 2 + l / 2 + l % 2 * VL; }
};
// Groups of `Wide` lanes lose all but their first `Few`.
template <int Few, int Wide>
struct DropLanes {
    static constexpr int lane(int l) { return l < VL / Wide * Few ? l / Few * Wide + l % Few : 0; }
};

constexpr int most_interleaved = 16;

// to[pixel * C + channel] = planes[channel * stride + pixel] for `pixels` pixels, at most VL. Zipping halves doubles
// the run of a pixel each time; stores overlap where C is no power of 2, and the last one is masked.
template <int C>
__attribute__((noinline)) void interleave(const float* planes, long stride, float* to, long pixels) {
    constexpr int wide = C <= 1 ? 1 : C <= 2 ? 2 : C <= 4 ? 4 : C <= 8 ? 8 : 16;
    Vec v[wide];
    FOVEA_UNROLL
    for (int i = 0; i < wide; i++) v[i] = i < C ? load(planes + i * stride) : Vec{};
    FOVEA_UNROLL
    for (int run = 1; run < wide; run *= 2) {
        Vec next[wide];
        FOVEA_UNROLL
        for (int i = 0; i < wide / 2; i++) {
            next[2 * i] = pick_lanes<ZipLow>(v[i], v[i + wide / 2]);
            next[2 * i + 1] = pick_lanes<ZipHigh>(v[i], v[i + wide / 2]);
        }
        FOVEA_UNROLL
        for (int i = 0; i < wide; i++) v[i] = next[i];
    }
    const long floats = pixels * C;
    FOVEA_UNROLL
    for (int i = 0; i < wide; i++) {
        long at = i * VL;
        if constexpr (wide > VL) {  // several vectors hold one pixel
            constexpr int parts = wide / VL;
            if (i % parts * VL >= C) continue;
            at = i / parts * C + i % parts * VL;
        } else if constexpr (C != wide) {
            v[i] = pick_lanes<DropLanes<C, wide>>(v[i], v[i]);
            at = static_cast<long>(i) * (VL / wide) * C;
        }
        if (at + VL <= floats)
            store(to + at, v[i]);
        else
            store(to + at, v[i], first_lanes(floats - at));
    }
}

using Interleave = void (*)(const float* planes, long stride, float* to, long pixels);

template <int... C>
static FOVEA_INLINE Interleave find_interleave(int channels, std::integer_sequence<int, C...>) {
    static const Interleave list[] = {interleave<C + 1>...};
    return list[channels - 1];
}
static FOVEA_INLINE Interleave find_interleave(int channels) {
    return find_interleave(channels, std::make_integer_sequence<int, most_interleaved>{});
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
