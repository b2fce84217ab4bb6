// A convolution of one-channel images with its clamp and a max-pooling over 2x2 as one, on bytes: the map between is
// never stored. Lanes are pooled pixels of a row; one product takes four neighbouring columns of a kernel row, where
// lanes of channels would take one. The largest sum becomes the largest byte: rounding keeps the order.
#include "kernels/dot_int8.h"
#include "kernels/dot_int8_vec.h"
#include "kernels/interleave.h"
#include "kernels/op_tools.h"
#include "kernels/tap_conv.h"
#include "runtime/memory.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr int most_channels = 4 * most_interleaved;
constexpr int tile_channels = VECTOR_REGISTERS == 32 ? 6 : 2;
constexpr int row_words = 4;  // of weights, for one channel: two for the even column of a window, two for the odd one

// As the lowering gives it (integer.py).
struct Pooled {
    int cout, height, width, rows, pad_y, pad_x, out_height, out_width;  // rows: of the kernel
    const int32_t* weight;                                               // [row][channel][row_words]
    const int32_t* bias;
    const float* factor;
    Rounding rounding;

    // Bytes of a row of the padded copy: the last vector reads further than the last pixel.
    long pitch() const {
        return round_up(max_of<long>(pad_x + width, 2 * round_up(out_width, VL)) + FOVEA_VECTOR_BYTES, 64);
    }
};

// word[w], lane i: the four bytes at p + 2 i + 4 w.
FOVEA_INLINE void windows(const uint8_t* p, Pixels (&word)[2]) {
#if defined(__AVX512BW__)
    const __m512i eights = _mm512_setr_epi64(0, 1, 1, 2, 2, 3, 3, 4);  // a quarter of the lanes sees bytes 8 i ..
    const __m512i near = _mm512_maskz_permutexvar_epi64(0xff, eights, _mm512_loadu_si512(p));
    const __m512i first =
        _mm512_maskz_broadcast_i32x4(0xffff, _mm_setr_epi8(0, 1, 2, 3, 2, 3, 4, 5, 4, 5, 6, 7, 6, 7, 8, 9));
    const __m512i second = _mm512_add_epi8(first, _mm512_set1_epi8(4));
    word[0] = pixels_of(reinterpret_cast<VecInt>(_mm512_shuffle_epi8(near, first)));
    word[1] = pixels_of(reinterpret_cast<VecInt>(_mm512_shuffle_epi8(near, second)));
#else
    for (int w = 0; w < 2; w++) {
        int32_t lane[VL];
        for (int i = 0; i < VL; i++) std::memcpy(lane + i, p + 2 * i + 4 * w, 4);
        word[w] = pixels_of(load_int(lane));
    }
#endif
}

FOVEA_INLINE VecInt larger(VecInt a, VecInt b) { return a > b ? a : b; }

// Bytes of C channels of VL pooled pixels, the first of whose windows begins at x. As in tap_tile.cpp every loop over
// the sums is unrolled.
template <int C>
__attribute__((noinline)) void tile(const Pooled& p, const uint8_t* x, int channel, VecInt* bytes) {
    const long pitch = p.pitch();
    VecInt sum[C][2][2];
    FOVEA_UNROLL
    for (int c = 0; c < C; c++) FOVEA_UNROLL
    for (int i = 0; i < 4; i++) sum[c][i / 2][i % 2] = same_int(p.bias[channel + c]);
    Pixels above[2], below[2];
    windows(x, above);
    const int32_t* weight = p.weight + channel * row_words;
    for (int row = 0; row < p.rows; row++, weight += p.cout * row_words) {
        x += pitch;
        windows(x, below);
        FOVEA_UNROLL
        for (int word = 0; word < 2; word++) FOVEA_UNROLL
        for (int c = 0; c < C; c++) FOVEA_UNROLL
        for (int column = 0; column < 2; column++) {
            const Weights w = weights_of(same_int(weight[c * row_words + 2 * column + word]));
            sum[c][0][column] = dot(sum[c][0][column], above[word], w);
            sum[c][1][column] = dot(sum[c][1][column], below[word], w);
        }
        above[0] = below[0];
        above[1] = below[1];
    }
    FOVEA_UNROLL
    for (int c = 0; c < C; c++) {
        const VecInt best = larger(larger(sum[c][0][0], sum[c][0][1]), larger(sum[c][1][0], sum[c][1][1]));
        bytes[channel + c] = to_byte_lanes(to_float(best) * broadcast(p.factor[channel + c]), p.rounding);
    }
}

template <int... C>
FOVEA_INLINE void all_channels(const Pooled& p, const uint8_t* x, VecInt* bytes, std::integer_sequence<int, C...>) {
    static void (*const list[])(const Pooled&, const uint8_t*, int, VecInt*) = {tile<C + 1>...};
    const int tiles = static_cast<int>(ceil_div(p.cout, tile_channels));
    for (int i = 0; i < tiles; i++) {
        const int channel = p.cout * i / tiles;
        list[p.cout * (i + 1) / tiles - channel - 1](p, x, channel, bytes);
    }
}

// The rows of an image that pooled rows begin .. end meet, a byte a pixel.
void copy_rows(const Pooled& p, int begin, int end, const int32_t* image, int fill, uint8_t* copy) {
    const long pitch = p.pitch();
    for (int y = 2 * begin - p.pad_y; y < 2 * end - p.pad_y + p.rows - 1; y++, copy += pitch) {
        std::memset(copy, fill, static_cast<size_t>(pitch));
        if (y < 0 || y >= p.height) continue;
        const int32_t* in = image + static_cast<long>(y) * p.width;
        for (int x = 0; x < p.width; x += VL)
            store_bytes(copy + p.pad_x + x, load_int(in + x, first_lanes(p.width - x)), p.width - x);
    }
}

void pooled_rows(const Pooled& p, int begin, int end, const uint8_t* copy, uint8_t* image) {
    const int words = static_cast<int>(ceil_div(p.cout, 4));
    const Interleave write = find_interleave(words);
    VecInt bytes[most_channels] = {};
    float planes[most_interleaved * VL];
    for (int y = begin; y < end; y++, copy += 2 * p.pitch())
        for (int x = 0; x < p.out_width; x += VL) {
            all_channels(p, copy + 2 * x, bytes, std::make_integer_sequence<int, tile_channels>{});
            for (int word = 0; word < words; word++) {
                const VecInt* b = bytes + 4 * word;
                store_int(planes + word * VL, b[0] | b[1] << 8 | b[2] << 16 | b[3] << 24);
            }
            uint8_t* to = image + (static_cast<long>(y) * p.out_width + x) * 4 * words;
            write(planes, VL, static_cast<float*>(static_cast<void*>(to)), min_of(VL, p.out_width - x));
        }
}

}  // namespace

// out <- in, weight (rows of the kernel, C_out, 4 words), bias (int32), factor; ints: sizes as conv.h's ConvShape,
// pooled height and width, the zero points of in and out; reals: low, high.
void int8_convpool(const OpCall& call) {
    const long* s = call.ints;
    Pooled p{};
    p.cout = static_cast<int>(s[2]);
    p.height = static_cast<int>(s[4]);
    p.width = static_cast<int>(s[5]);
    p.rows = static_cast<int>(s[10]);
    p.pad_y = static_cast<int>(s[19]);
    p.pad_x = static_cast<int>(s[20]);
    p.out_height = static_cast<int>(s[21]);
    p.out_width = static_cast<int>(s[22]);
    p.weight = static_cast<const int32_t*>(call.operand[2]);
    p.bias = static_cast<const int32_t*>(call.operand[3]);
    p.factor = in(call, 4);
    p.rounding = rounding(call.reals[0], call.reals[1], static_cast<int>(s[24]));
    const int32_t* from = static_cast<const int32_t*>(call.operand[1]);
    uint8_t* to = static_cast<uint8_t*>(call.operand[0]);
    const long image = static_cast<long>(p.out_height) * p.out_width;
    const long wanted = piece_count(static_cast<double>(call.n) * image * p.cout * p.rows * 2 * row_words);
    const long bands = min_of<long>(p.out_height, ceil_div(wanted, call.n)), pieces = call.n * bands;
    const long joined = ceil_div(pieces, wanted);
    parallel(ceil_div(pieces, joined), [&](long group) {
        for (long piece = group * joined; piece < min_of(pieces, (group + 1) * joined); piece++) {
            const long n = piece / bands, band = piece % bands;
            const int begin = static_cast<int>(p.out_height * band / bands);
            const int end = static_cast<int>(p.out_height * (band + 1) / bands);
            const long bytes = (2L * (end - begin) + p.rows - 1) * p.pitch();  // whole cache lines
            uint8_t* copy = reinterpret_cast<uint8_t*>(thread_scratch(static_cast<size_t>(bytes / 4)));
            copy_rows(p, begin, end, from + n * p.height * p.width, static_cast<int>(s[23]), copy);
            pooled_rows(p, begin, end, copy, to + n * image * round_up(p.cout, 4));
        }
    });
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
