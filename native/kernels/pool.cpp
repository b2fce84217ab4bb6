// Pooling over windows. Activations are N,D,H,W,C; 1-D and 2-D have leading axes of 1.
#include "kernels/families.h"
#include "kernels/op_tools.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// The ints of a pooling instruction begin with this.
struct Window {
    long channels, in[3], out[3], kernel[3], stride[3], dilation[3], pad_lo[3];
};
constexpr int window_ints = 19;

FOVEA_INLINE const Window& window(const OpCall& call) { return *reinterpret_cast<const Window*>(call.ints); }
FOVEA_INLINE long in_floats(const Window& w) { return w.in[0] * w.in[1] * w.in[2] * w.channels; }
FOVEA_INLINE long out_pixels(const Window& w) { return w.out[0] * w.out[1] * w.out[2]; }

// body(tap number, offset of the tap's pixel in the sample) for every tap of output pixel `flat` that lies inside.
template <class Body>
FOVEA_INLINE void over_taps(const Window& w, long flat, const Body& body) {
    const long at[3] = {flat / w.out[2] / w.out[1], flat / w.out[2] % w.out[1], flat % w.out[2]};
    long start[3];
    for (int i = 0; i < 3; i++) start[i] = at[i] * w.stride[i] - w.pad_lo[i];
    long tap = 0;
    for (long d = 0; d < w.kernel[0]; d++) {
        const long z = start[0] + d * w.dilation[0];
        for (long h = 0; h < w.kernel[1]; h++) {
            const long y = start[1] + h * w.dilation[1];
            for (long v = 0; v < w.kernel[2]; v++, tap++) {
                const long x = start[2] + v * w.dilation[2];
                if (z < 0 || z >= w.in[0] || y < 0 || y >= w.in[1] || x < 0 || x >= w.in[2]) continue;
                body(tap, ((z * w.in[1] + y) * w.in[2] + x) * w.channels);
            }
        }
    }
}

// The first maximum of one window, VL channels at a time; NaN wins and stays.
template <class Index>
void max_pixel(const Window& w, long flat, const float* sample, float* y, Index* index) {
    for (long c = 0; c < w.channels; c += VL) {
        const Mask mask = first_lanes(w.channels - c);
        Vec best = {};
        VecInt where = {};
        bool first = true;
        over_taps(w, flat, [&](long tap, long offset) {
            const Vec v = load(sample + offset + c, mask);
            const VecInt number = VecInt{} + static_cast<int32_t>(tap);
            const VecInt wins = first ? ~VecInt{} : (~(v <= best) & (best == best));
            best = wins ? v : best;
            where = wins ? number : where;
            first = false;
        });
        store(y + c, best, mask);
        const long lanes = min_of<long>(VL, w.channels - c);
        if (index && lanes == VL) {
            FOVEA_UNROLL
            for (int i = 0; i < VL; i++) index[c + i] = static_cast<Index>(where[i]);
        } else if (index) {
            for (long i = 0; i < lanes; i++) index[c + i] = static_cast<Index>(where[i]);
        }
    }
}

// y, index (which tap won, for backward; may be null), x; ints: Window.
template <class Index>
void maxpool(const OpCall& call) {
    const Window& w = window(call);
    float* y = out(call, 0);
    Index* index = static_cast<Index*>(call.operand[1]);
    const float* x = in(call, 2);
    const long pixels = out_pixels(w);
    over_rows(call.n * pixels, w.channels * w.kernel[0] * w.kernel[1] * w.kernel[2], [=, &w](long begin, long end) {
        for (long p = begin; p < end; p++)
            max_pixel(w, p % pixels, x + p / pixels * in_floats(w), y + p * w.channels,
                      index ? index + p * w.channels : nullptr);
    });
}

// dx, dy, index; ints: Window. A piece is one sample: windows may overlap.
template <class Index>
void maxpool_backward(const OpCall& call) {
    const Window& w = window(call);
    float* dx = out(call, 0);
    const float* dy = in(call, 1);
    const Index* index = static_cast<const Index*>(call.operand[2]);
    const long pixels = out_pixels(w);
    parallel(call.n, [=, &w](long sample) {
        float* target = dx + sample * in_floats(w);
        for (long i = 0; i < in_floats(w); i++) target[i] = 0;
        for (long p = 0; p < pixels; p++) {
            const float* g = dy + (sample * pixels + p) * w.channels;
            const Index* won = index + (sample * pixels + p) * w.channels;
            over_taps(w, p, [&](long tap, long offset) {
                float* to = target + offset;
                for (long c = 0; c < w.channels; c++) to[c] += won[c] == static_cast<Index>(tap) ? g[c] : 0.0f;
            });
        }
    });
}

// What a window's sum is divided by: the product over axes of counts that follow the Window in the ints.
FOVEA_INLINE float inverse_count(const Window& w, const long* counts, long flat) {
    const long at[3] = {flat / w.out[2] / w.out[1], flat / w.out[2] % w.out[1], flat % w.out[2]};
    const long* second = counts + w.out[0];
    const long* third = second + w.out[1];
    return 1.0f / static_cast<float>(counts[at[0]] * second[at[1]] * third[at[2]]);
}

// y, x; ints: Window, then the divisors along each axis for every output position.
void avgpool(const OpCall& call) {
    const Window& w = window(call);
    float* y = out(call, 0);
    const float* x = in(call, 1);
    const long* counts = call.ints + window_ints;
    const long pixels = out_pixels(w);
    over_rows(call.n * pixels, w.channels * w.kernel[0] * w.kernel[1] * w.kernel[2], [=, &w](long begin, long end) {
        for (long p = begin; p < end; p++) {
            const float* sample = x + p / pixels * in_floats(w);
            const Vec factor = broadcast(inverse_count(w, counts, p % pixels));
            for (long c = 0; c < w.channels; c += VL) {
                const Mask mask = first_lanes(w.channels - c);
                Vec sum = {};
                over_taps(w, p % pixels, [&](long, long offset) { sum += load(sample + offset + c, mask); });
                store(y + p * w.channels + c, sum * factor, mask);
            }
        }
    });
}

// dx, dy; ints as avgpool.
void avgpool_backward(const OpCall& call) {
    const Window& w = window(call);
    float* dx = out(call, 0);
    const float* dy = in(call, 1);
    const long* counts = call.ints + window_ints;
    const long pixels = out_pixels(w);
    parallel(call.n, [=, &w](long sample) {
        float* target = dx + sample * in_floats(w);
        for (long i = 0; i < in_floats(w); i++) target[i] = 0;
        for (long p = 0; p < pixels; p++) {
            const float* g = dy + (sample * pixels + p) * w.channels;
            const float factor = inverse_count(w, counts, p);
            over_taps(w, p, [&](long, long offset) {
                float* to = target + offset;
                for (long c = 0; c < w.channels; c++) to[c] += g[c] * factor;
            });
        }
    });
}

const OpKernel list[] = {
    {"maxpool_uint8", 3, window_ints, 0, maxpool<uint8_t>, nullptr},
    {"maxpool_uint8_backward", 3, window_ints, 0, maxpool_backward<uint8_t>, nullptr},
    {"maxpool_int32", 3, window_ints, 0, maxpool<int32_t>, nullptr},
    {"maxpool_int32_backward", 3, window_ints, 0, maxpool_backward<int32_t>, nullptr},
    {"avgpool", 2, -1, 0, avgpool, nullptr},
    {"avgpool_backward", 2, -1, 0, avgpool_backward, nullptr},
};

}  // namespace

OpList pool_ops() { return op_list(list); }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
