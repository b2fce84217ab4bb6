// Element-wise work and pooling on bytes, and the list of all kernels of int8 inference.
#include "kernels/dot_families.h"
#include "kernels/dot_int8.h"
#include "kernels/dot_int8_vec.h"
#include "kernels/op_tools.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr int most_pool_taps = 256;

const uint8_t* bytes(const OpCall& call, int i) { return static_cast<const uint8_t*>(call.operand[i]); }
uint8_t* out_bytes(const OpCall& call) { return static_cast<uint8_t*>(call.operand[0]); }

FOVEA_INLINE Vec load_values(const float* p, long lanes) { return load(p, first_lanes(lanes)); }
FOVEA_INLINE Vec load_values(const uint8_t* p, long lanes) { return to_float(load_bytes(p, lanes)); }

// The lanes of `v` in the order of `index`.
FOVEA_INLINE Vec permuted(Vec v, VecInt index) {
#if defined(__clang__)
    Vec result;
    for (int i = 0; i < VL; i++) result[i] = v[index[i]];
    return result;
#else
    return __builtin_shuffle(v, index);
#endif
}

// Pixels of up to four channels: VL / 4 of them are one vector.
template <class T>
void quantize_few(const T* x, const float* factor, const float* offset, long pixels, int channels, const Rounding& r,
                  uint8_t* out) {
    VecInt index;
    Vec factors, offsets;
    for (int i = 0; i < VL; i++) {
        const int channel = min_of(i % 4, channels - 1);
        index[i] = i / 4 * channels + channel;
        factors[i] = factor[channel];
        offsets[i] = offset[channel];
    }
    for (long pixel = 0; pixel < pixels; pixel += VL / 4) {
        const long count = min_of<long>(VL / 4, pixels - pixel);
        const Vec v = permuted(load_values(x + pixel * channels, count * channels), index);
        store_bytes(out + 4 * pixel, to_byte_lanes(v * factors + offsets, r), 4 * count);
    }
}

template <class T>
void quantize(const OpCall& call) {
    const int channels = static_cast<int>(call.ints[1]);
    const long rows = call.n * call.ints[0], padded = round_up(channels, 4);
    const int zero = static_cast<int>(call.ints[2]);
    const T* x = static_cast<const T*>(call.operand[1]);
    const float *factor = in(call, 2), *offset = in(call, 3);
    const Rounding r = rounding(static_cast<float>(-zero), static_cast<float>(255 - zero), zero);
    over_rows(rows, channels, [&](long begin, long end) {
        if (channels <= 4)
            return quantize_few(x + begin * channels, factor, offset, end - begin, channels, r,
                                out_bytes(call) + begin * 4);
        for (long row = begin; row < end; row++)
            for (long c = 0; c < channels; c += VL) {
                const Mask mask = first_lanes(channels - c);
                const Vec v = load_values(x + row * channels + c, channels - c);
                const Vec y = v * load(factor + c, mask) + load(offset + c, mask);
                store_bytes(out_bytes(call) + row * padded + c, to_byte_lanes(y, r), padded - c);
            }
    });
}

// y = (q - zero) scale; ints: rows, channels, zero.
void dequantize(const OpCall& call) {
    const long channels = call.ints[1], rows = call.n * call.ints[0], padded = round_up(channels, 4);
    const VecInt zero = same_int(static_cast<int>(call.ints[2]));
    const Vec scale = broadcast(call.reals[0]);
    over_rows(rows, channels, [&](long begin, long end) {
        for (long row = begin; row < end; row++)
            for (long c = 0; c < channels; c += VL)
                store(out(call, 0) + row * channels + c,
                      to_float(load_bytes(bytes(call, 1) + row * padded + c, channels - c) - zero) * scale,
                      first_lanes(channels - c));
    });
}

// y = (a - zero_a) factor_a + (b - zero_b) factor_b; ints: bytes of a sample, zero_a, zero_b, zero; reals: both
// factors, low, high.
void add(const OpCall& call) {
    const VecInt zero_a = same_int(static_cast<int>(call.ints[1])), zero_b = same_int(static_cast<int>(call.ints[2]));
    const Vec factor_a = broadcast(call.reals[0]), factor_b = broadcast(call.reals[1]);
    const Rounding r = rounding(call.reals[2], call.reals[3], static_cast<int>(call.ints[3]));
    over_range(call.n * call.ints[0], piece_floats, [&](long begin, long end) {
        for (long i = begin; i < end; i += VL) {
            const Vec a = to_float(load_bytes(bytes(call, 1) + i, end - i) - zero_a) * factor_a;
            const Vec b = to_float(load_bytes(bytes(call, 2) + i, end - i) - zero_b) * factor_b;
            store_bytes(out_bytes(call) + i, to_byte_lanes(a + b, r), end - i);
        }
    });
}

// A window's geometry.
struct Pool {
    const long *in, *out, *kernel, *stride, *dilation, *pad;
    long pixel;
};

// Which taps of a window that begins at `at` lie inside, along one axis: tap * dilation + at.
FOVEA_INLINE void inside(const Pool& p, int axis, long at, long& begin, long& end) {
    const long d = p.dilation[axis], last = at + (p.kernel[axis] - 1) * d;
    begin = at < 0 ? ceil_div(-at, d) : 0;
    end = last < p.in[axis] ? p.kernel[axis] : ceil_div(p.in[axis] - at, d);  // divisions take longer than a window
}

// The largest of `count` bytes that lie offset[t] from `from`, channel by channel.
FOVEA_INLINE void pool_window(const uint8_t* from, const long* offset, int count, long pixel, uint8_t* to) {
    for (long c = 0; c < pixel; c += block) {
        VecBytes most = reinterpret_cast<VecBytes>(load_block(from + offset[0] + c, pixel - c));
        for (int t = 1; t < count; t++) {
            const VecBytes v = reinterpret_cast<VecBytes>(load_block(from + offset[t] + c, pixel - c));
            most = v > most ? v : most;
        }
        store_block(to + c, reinterpret_cast<VecInt>(most), pixel - c);
    }
}

void pool_row(const Pool& p, const uint8_t* image, long z, long y, uint8_t* to) {
    long offset[most_pool_taps];
    long z0, z1, y0, y1, x0, x1, seen0 = -1, seen1 = -1;
    const long at_z = z * p.stride[0] - p.pad[0], at_y = y * p.stride[1] - p.pad[1];
    inside(p, 0, at_z, z0, z1);
    inside(p, 1, at_y, y0, y1);
    const uint8_t* from = image + ((at_z * p.in[1] + at_y) * p.in[2] - p.pad[2]) * p.pixel;
    int count = 0;
    for (long x = 0; x < p.out[2]; x++, to += p.pixel, from += p.stride[2] * p.pixel) {
        inside(p, 2, x * p.stride[2] - p.pad[2], x0, x1);
        if (x0 != seen0 || x1 != seen1) {  // seldom: most windows of a row have all columns
            count = 0;
            for (long mz = z0; mz < z1; mz++)
                for (long my = y0; my < y1; my++)
                    for (long mx = x0; mx < x1; mx++)
                        offset[count++] =
                            ((mz * p.dilation[0] * p.in[1] + my * p.dilation[1]) * p.in[2] + mx * p.dilation[2]) *
                            p.pixel;
            seen0 = x0;
            seen1 = x1;
        }
        if (count == 4)
            pool_window(from, offset, 4, p.pixel, to);
        else
            pool_window(from, offset, count, p.pixel, to);
    }
}

// The maximum of each window; ints: channels, then in, out, kernel, stride, dilation, pad_lo of three axes.
void maxpool(const OpCall& call) {
    const long* s = call.ints;
    const Pool p{s + 1, s + 4, s + 7, s + 10, s + 13, s + 16, round_up(s[0], 4)};
    const long rows = call.n * p.out[0] * p.out[1];
    over_rows(rows, p.out[2] * p.pixel, [&](long begin, long end) {
        for (long row = begin; row < end; row++) {
            const long y = row % p.out[1], z = row / p.out[1] % p.out[0], image = row / p.out[1] / p.out[0];
            pool_row(p, bytes(call, 1) + image * p.in[0] * p.in[1] * p.in[2] * p.pixel, z, y,
                     out_bytes(call) + row * p.out[2] * p.pixel);
        }
    });
}

// The mean over positions; ints: positions, channels, zero, float_output, zero of the output; reals: factor, low, high.
void mean(const OpCall& call) {
    const long positions = call.ints[0], channels = call.ints[1], padded = round_up(channels, 4);
    const VecInt zeros_of_all = same_int(static_cast<int>(positions * call.ints[2]));
    const Vec factor = broadcast(call.reals[0]), low = broadcast(call.reals[1]), high = broadcast(call.reals[2]);
    const Rounding r = rounding(call.reals[1], call.reals[2], static_cast<int>(call.ints[4]));
    over_rows(call.n, positions * padded / 4, [&](long begin, long end) {
        for (long image = begin; image < end; image++)
            for (long c = 0; c < channels; c += VL) {
                VecInt sum = {};
                for (long p = 0; p < positions; p++)
                    sum += load_bytes(bytes(call, 1) + (image * positions + p) * padded + c, channels - c);
                const Vec y = to_float(sum - zeros_of_all) * factor;
                if (call.ints[3])
                    store(out(call, 0) + image * channels + c, at_most(at_least(y, low), high),
                          first_lanes(channels - c));
                else
                    store_bytes(out_bytes(call) + image * padded + c, to_byte_lanes(y, r), padded - c);
            }
    });
}

const OpKernel int8_kernels[] = {
    // out, in, factor, offset (by channel); ints: rows, channels, zero: rounds in * factor + offset
    {"int8_quantize_float32", 4, 3, 0, quantize<float>, nullptr},
    {"int8_quantize_uint8", 4, 3, 0, quantize<uint8_t>, nullptr},
    {"int8_dequantize", 2, 3, 1, dequantize, nullptr},
    {"int8_pack", 2, 21, 0, int8_pack, nullptr},
    {"int8_conv", 7, 24, 3, int8_conv, nullptr},
    {"int8_winograd", 7, 23, 3, int8_winograd, nullptr},
    {"int8_convpool", 5, 25, 2, int8_convpool, nullptr},
    {"int8_depthwise_pack", 4, 21, 0, int8_depthwise_pack, nullptr},
    {"int8_depthwise", 4, 22, 2, int8_depthwise, nullptr},
    {"int8_inverted", 11, 15, 7, int8_inverted, nullptr},
    {"int8_add", 3, 4, 4, add, nullptr},
    {"int8_maxpool", 2, 19, 0, maxpool, nullptr},
    {"int8_mean", 2, 5, 3, mean, nullptr},
};

}  // namespace

OpList int8_ops() { return op_list(int8_kernels); }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
