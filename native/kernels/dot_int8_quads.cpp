#include "kernels/dot_int8_quads.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

#if FOVEA_VECTOR_BYTES == 64
namespace {

constexpr int channels = 16, words = channels / 4, pixel_bytes = channels;

// The same 16 bytes in every quarter.
FOVEA_INLINE VecInt quarters(const void* p) {
    return reinterpret_cast<VecInt>(
        _mm512_maskz_broadcast_i32x4(0xffff, _mm_loadu_si128(static_cast<const __m128i*>(p))));
}

template <int word>
FOVEA_INLINE VecInt repeated(VecInt pixels) {
    return reinterpret_cast<VecInt>(
        _mm512_maskz_shuffle_epi32(0xffff, reinterpret_cast<__m512i>(pixels), static_cast<_MM_PERM_ENUM>(word * 0x55)));
}

template <int word, int G>
FOVEA_INLINE void add_word(VecInt (&sum)[G][words], const VecInt (&pixels)[G], const int8_t* weight) {
    Weights w[words];
    FOVEA_UNROLL
    for (int j = 0; j < words; j++) w[j] = weights_of(quarters(weight + word * 4 * channels + 16 * j));
    FOVEA_UNROLL
    for (int g = 0; g < G; g++) {
        const Pixels x = pixels_of(repeated<word>(pixels[g]));
        FOVEA_UNROLL
        for (int j = 0; j < words; j++) sum[g][j] = dot(sum[g][j], x, w[j]);
    }
}

// Bytes of four pixels as sums lie: part j has channels 4j .. 4j + 3 of each.
FOVEA_INLINE void spread(VecInt bytes, VecInt (&part)[words]) {
    const __m512i v = reinterpret_cast<__m512i>(bytes), zero = _mm512_setzero_si512();
    const __m512i low = _mm512_unpacklo_epi8(v, zero), high = _mm512_unpackhi_epi8(v, zero);
    part[0] = reinterpret_cast<VecInt>(_mm512_unpacklo_epi16(low, zero));
    part[1] = reinterpret_cast<VecInt>(_mm512_unpackhi_epi16(low, zero));
    part[2] = reinterpret_cast<VecInt>(_mm512_unpacklo_epi16(high, zero));
    part[3] = reinterpret_cast<VecInt>(_mm512_unpackhi_epi16(high, zero));
}

FOVEA_INLINE VecInt joined(const VecInt (&part)[words]) {
    const __m512i low = _mm512_packs_epi32(reinterpret_cast<__m512i>(part[0]), reinterpret_cast<__m512i>(part[1]));
    const __m512i high = _mm512_packs_epi32(reinterpret_cast<__m512i>(part[2]), reinterpret_cast<__m512i>(part[3]));
    return reinterpret_cast<VecInt>(_mm512_packus_epi16(low, high));
}

// Up to 4 G pixels of one row, of which `left` are there.
template <int G>
void pixels(const TapConv& c, const int8_t* packed, const Int8Epilogue& e, const uint8_t* in, uint8_t* out, long left) {
    VecInt sum[G][words];
    FOVEA_UNROLL
    for (int j = 0; j < words; j++) {
        const VecInt start = quarters(e.bias + 4 * j);
        FOVEA_UNROLL
        for (int g = 0; g < G; g++) sum[g][j] = start;
    }
    for (int tap = 0; tap < c.tap_count; tap++) {
        const int* offset = c.taps[tap].offset;
        const uint8_t* row = in + 4 * (offset[0] * c.in_stride[0] + offset[1] * c.in_stride[1]);
        for (int m = 0; m < c.merged; m++, row += pixel_bytes, packed += channels * channels) {
            VecInt x[G];
            FOVEA_UNROLL
            for (int g = 0; g < G; g++) x[g] = load_int(row + 64 * g);
            add_word<0>(sum, x, packed);
            add_word<1>(sum, x, packed);
            add_word<2>(sum, x, packed);
            add_word<3>(sum, x, packed);
        }
    }
    const Rounding r = rounding(e.low, e.high, e.zero);
    FOVEA_UNROLL
    for (int g = 0; g < G; g++) {
        const long bytes = pixel_bytes * (left - 4 * g);
        if (bytes <= 0) return;
        VecInt residual[words];
        if (e.residual) spread(load_block(out + 64 * g + e.residual_distance, bytes), residual);
        FOVEA_UNROLL
        for (int j = 0; j < words; j++) {
            Vec y = to_float(sum[g][j]) * reinterpret_cast<Vec>(quarters(e.factor + 4 * j));
            if (e.residual) y += to_float(residual[j] - same_int(e.residual_zero)) * broadcast(e.residual_factor);
            sum[g][j] = to_byte_lanes(y, r);
        }
        store_block(out + 64 * g, joined(sum[g]), bytes);
    }
}

}  // namespace

bool quads_apply(const TapConv& c, bool float_output) {
    return !float_output && c.groups == 1 && c.columns == channels && c.in_stride[2] == words && c.step[2] == 1;
}

void run_quads(const TapConv& c, const int8_t* packed, const Int8Epilogue& e, const float* in, float* out) {
    for (long z = 0; z < c.positions[0]; z++)
        for (long y = 0; y < c.positions[1]; y++) {
            const uint8_t* from =
                reinterpret_cast<const uint8_t*>(in + z * c.step[0] * c.in_stride[0] + y * c.step[1] * c.in_stride[1]);
            uint8_t* to = reinterpret_cast<uint8_t*>(out + c.out_origin + z * c.out_stride[0] + y * c.out_stride[1]);
            for (long x = 0; x < c.positions[2];) {
                const long left = c.positions[2] - x;
                if (left > 8)
                    pixels<4>(c, packed, e, from + x * pixel_bytes, to + x * pixel_bytes, left);
                else
                    pixels<2>(c, packed, e, from + x * pixel_bytes, to + x * pixel_bytes, left);
                x += left > 8 ? 16 : 8;
            }
        }
}
#else
bool quads_apply(const TapConv&, bool) { return false; }

void run_quads(const TapConv&, const int8_t*, const Int8Epilogue&, const float*, float*) {}
#endif

}  // namespace fovea::FOVEA_ISA_NAMESPACE
