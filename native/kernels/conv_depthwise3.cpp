#include "kernels/conv_depthwise3.h"

#include <utility>

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr int block_pixels = 8;

// The columns of one row that a block of P outputs meets, for one vector of channels. The first and the last column may
// lie outside of the image.
template <int P, int Step, bool Ragged, class S>
struct Columns {
    static constexpr int count = (P - 1) * Step + 3;
    long step;
    Mask mask, first, last;

    FOVEA_INLINE Columns(const DepthwiseRowOf<S>& r, int x, Mask channels) : step(r.channels), mask(channels) {
        const int left = x * Step - r.pad, right = left + count - 1;
        first = left < 0 ? first_lanes(0) : channels;
        last = right >= r.in_width ? first_lanes(0) : channels;
    }
    FOVEA_INLINE Vec get(const S* p, int c) const {
        if (c == 0) return load(p, first);
        if (c == count - 1) return load(p + c * step, last);
        return Ragged ? load(p + c * step, mask) : load(p + c * step);
    }
};

template <bool Ragged, class S>
FOVEA_INLINE Vec get(const S* p, Mask mask) {
    return Ragged ? load(p, mask) : load(p);
}
template <bool Ragged, class S>
FOVEA_INLINE void put(S* p, Vec v, Mask mask) {
    if (Ragged)
        store(p, v, mask);
    else
        store(p, v);
}

struct Weights {
    Vec column[3];
};

// The weights of the kernel's row that input row k meets.
template <bool Ragged, class S>
FOVEA_INLINE Weights weights_of(const DepthwiseRowOf<S>& r, int k, int channel, Mask mask) {
    const float* p = r.weight + r.rows.kernel[k] * r.weight_row + channel;
    return {{get<Ragged>(p, mask), get<Ragged>(p + r.weight_column, mask), get<Ragged>(p + 2 * r.weight_column, mask)}};
}

template <bool Ragged>
FOVEA_INLINE Vec bias_of(const Epilogue& e, int channel, Mask mask) {
    return e.bias ? get<Ragged>(e.bias + channel, mask) : Vec{};
}

template <int P>
FOVEA_INLINE void clamp_all(const Epilogue& e, Vec (&acc)[P]) {
    if (!e.clamp) return;
    const Vec low = broadcast(e.low), high = broadcast(e.high);
    FOVEA_UNROLL
    for (int i = 0; i < P; i++) acc[i] = at_most(at_least(acc[i], low), high);
}

// One vector of channels of P outputs from x on.
template <int P, int Step, bool Ragged, class S>
FOVEA_INLINE void forward_vector(const DepthwiseRowOf<S>& r, int x, int channel, Mask mask) {
    const Columns<P, Step, Ragged, S> columns(r, x, mask);
    const Vec start = bias_of<Ragged>(*r.epilogue, channel, mask);
    Vec acc[P];
    FOVEA_UNROLL
    for (int i = 0; i < P; i++) acc[i] = start;
    const long left = (static_cast<long>(x) * Step - r.pad) * r.channels + channel;
    for (int k = 0; k < r.rows.count; k++) {
        const S* in = r.rows.in[k] + left;
        const Weights w = weights_of<Ragged>(r, k, channel, mask);
        FOVEA_UNROLL
        for (int c = 0; c < columns.count; c++) {
            const Vec v = columns.get(in, c);
            FOVEA_UNROLL
            for (int m = 0; m < 3; m++)
                if (c - m >= 0 && (c - m) % Step == 0 && (c - m) / Step < P) acc[(c - m) / Step] += v * w.column[m];
        }
    }
    clamp_all(*r.epilogue, acc);
    S* out = r.out + static_cast<long>(x) * r.channels + channel;
    FOVEA_UNROLL
    for (int i = 0; i < P; i++) put<Ragged>(out + static_cast<long>(i) * r.channels, acc[i], mask);
}

// P columns of grad_output become 2 P of grad_input: an even one meets the middle weights, an odd one both others.
template <int P, bool Ragged, class S>
FOVEA_INLINE void spread_vector(const DepthwiseRowOf<S>& r, int x, int channel, Mask mask) {
    const Mask last = x + P >= r.in_width ? first_lanes(0) : mask;
    const Vec start = bias_of<Ragged>(*r.epilogue, channel, mask);
    Vec even[P], odd[P];
    FOVEA_UNROLL
    for (int i = 0; i < P; i++) even[i] = odd[i] = start;
    for (int k = 0; k < r.rows.count; k++) {
        const S* in = r.rows.in[k] + static_cast<long>(x) * r.channels + channel;
        const Weights w = weights_of<Ragged>(r, k, channel, mask);
        FOVEA_UNROLL
        for (int c = 0; c <= P; c++) {
            const S* p = in + static_cast<long>(c) * r.channels;
            const Vec v = c == P ? load(p, last) : get<Ragged>(p, mask);
            if (c < P) {
                even[c] += v * w.column[1];
                odd[c] += v * w.column[2];
            }
            if (c > 0) odd[c - 1] += v * w.column[0];
        }
    }
    clamp_all(*r.epilogue, even);
    clamp_all(*r.epilogue, odd);
    S* out = r.out + 2 * static_cast<long>(x) * r.channels + channel;
    FOVEA_UNROLL
    for (int i = 0; i < P; i++) {
        put<Ragged>(out + 2L * i * r.channels, even[i], mask);
        if (2 * (x + i) + 1 < r.out_width) put<Ragged>(out + (2L * i + 1) * r.channels, odd[i], mask);
    }
}

template <int P, int Step, bool Ragged, class S>
FOVEA_INLINE void weight_vector(const DepthwiseRowOf<S>& r, int x, int channel, Mask mask) {
    const Columns<P, Step, Ragged, S> columns(r, x, mask);
    const S* grad = r.grad + static_cast<long>(x) * r.channels + channel;
    Vec g[P];
    FOVEA_UNROLL
    for (int i = 0; i < P; i++) g[i] = get<Ragged>(grad + static_cast<long>(i) * r.channels, mask);
    const long left = (static_cast<long>(x) * Step - r.pad) * r.channels + channel;
    const S* inputs[3] = {nullptr, nullptr, nullptr};
    for (int k = 0; k < r.rows.count; k++) inputs[r.rows.kernel[k]] = r.rows.in[k];
    // All sums at once: a load of x behind a store whose address has the same lower bits would wait for it.
    Vec acc[3][3];
    FOVEA_UNROLL
    for (int k = 0; k < 3; k++) FOVEA_UNROLL
    for (int m = 0; m < 3; m++) acc[k][m] = get<Ragged>(r.sum + k * r.weight_row + m * r.weight_column + channel, mask);
    FOVEA_UNROLL
    for (int k = 0; k < 3; k++) {
        const S* in = inputs[k];
        if (!in) continue;
        in += left;
        FOVEA_UNROLL
        for (int c = 0; c < columns.count; c++) {
            const Vec v = columns.get(in, c);
            FOVEA_UNROLL
            for (int m = 0; m < 3; m++)
                if (c - m >= 0 && (c - m) % Step == 0 && (c - m) / Step < P) acc[k][m] += v * g[(c - m) / Step];
        }
    }
    FOVEA_UNROLL
    for (int k = 0; k < 3; k++) FOVEA_UNROLL
    for (int m = 0; m < 3; m++) put<Ragged>(r.sum + k * r.weight_row + m * r.weight_column + channel, acc[k][m], mask);
}

// All channels of a block: whole vectors, then what is left.
#define FOVEA_ALL_CHANNELS(vector, ...)                                                                  \
    const Mask all = first_lanes(VL);                                                                    \
    int channel = 0;                                                                                     \
    for (; channel + VL <= r.channels; channel += VL) vector<__VA_ARGS__, false, S>(r, x, channel, all); \
    if (channel < r.channels) vector<__VA_ARGS__, true, S>(r, x, channel, first_lanes(r.channels - channel))

template <int P, int Step, class S>
void forward_block(const DepthwiseRowOf<S>& r, int x) {
    FOVEA_ALL_CHANNELS(forward_vector, P, Step);
}
template <int P, class S>
void spread_block(const DepthwiseRowOf<S>& r, int x) {
    FOVEA_ALL_CHANNELS(spread_vector, P);
}
template <int P, int Step, class S>
void weight_block(const DepthwiseRowOf<S>& r, int x) {
    FOVEA_ALL_CHANNELS(weight_vector, P, Step);
}
#undef FOVEA_ALL_CHANNELS

template <class S>
using Block = void (*)(const DepthwiseRowOf<S>&, int x);

template <class S, int Step, int... I>
Block<S> forward_of(int pixels, std::integer_sequence<int, I...>) {
    static constexpr Block<S> list[] = {forward_block<I + 1, Step, S>...};
    return list[pixels - 1];
}
template <class S, int... I>
Block<S> spread_of(int pixels, std::integer_sequence<int, I...>) {
    static constexpr Block<S> list[] = {spread_block<I + 1, S>...};
    return list[pixels - 1];
}
template <class S, int Step, int... I>
Block<S> weight_of(int pixels, std::integer_sequence<int, I...>) {
    static constexpr Block<S> list[] = {weight_block<I + 1, Step, S>...};
    return list[pixels - 1];
}
using Sizes = std::make_integer_sequence<int, block_pixels>;

// Blocks of about equal size.
template <class S, class Find>
FOVEA_INLINE void over_row(const DepthwiseRowOf<S>& r, int width, const Find& find) {
    const int blocks = static_cast<int>(ceil_div(width, block_pixels));
    for (int i = 0; i < blocks; i++) {
        const int begin = static_cast<int>(static_cast<long>(width) * i / blocks);
        const int end = static_cast<int>(static_cast<long>(width) * (i + 1) / blocks);
        find(end - begin)(r, begin);
    }
}

}  // namespace

bool depthwise3_applies(const ConvShape& s, ConvPass pass) {
    if (s.kernel[0] != 1 || s.in[0] != 1 || s.out[0] != 1 || s.pad_lo[0] != 0) return false;
    for (int i = 1; i < 3; i++) {
        const int stride = s.stride[i], overhang = (s.out[i] - 1) * stride + 3 - s.pad_lo[i] - s.in[i];
        if (s.kernel[i] != 3 || s.dilation[i] != 1 || stride != s.stride[2] || stride > 2) return false;
        if (s.pad_lo[i] < 0 || s.pad_lo[i] > 1 || overhang > 1) return false;
        if (pass != ConvPass::backward_data) continue;
        // The same forward with mirrored weights, whose padding is 2 - pad_lo; or every input beside an output.
        if (s.pad_lo[i] != 1 || s.out[i] != ceil_div(s.in[i], stride)) return false;
    }
    return true;
}

template <class S>
void depthwise3_row(const DepthwiseRowOf<S>& r) {
    over_row(r, r.out_width,
             [&](int n) { return r.stride == 1 ? forward_of<S, 1>(n, Sizes{}) : forward_of<S, 2>(n, Sizes{}); });
}

template <class S>
void depthwise3_spread_row(const DepthwiseRowOf<S>& r) {
    over_row(r, r.in_width, [](int n) { return spread_of<S>(n, Sizes{}); });
}

template <class S>
void depthwise3_weight_row(const DepthwiseRowOf<S>& r) {
    over_row(r, r.out_width,
             [&](int n) { return r.stride == 1 ? weight_of<S, 1>(n, Sizes{}) : weight_of<S, 2>(n, Sizes{}); });
}

#define FOVEA_STORED_AS(S)                                            \
    template void depthwise3_row<S>(const DepthwiseRowOf<S>&);        \
    template void depthwise3_spread_row<S>(const DepthwiseRowOf<S>&); \
    template void depthwise3_weight_row<S>(const DepthwiseRowOf<S>&);
FOVEA_STORED_AS(float)
FOVEA_STORED_AS(bf16)
#undef FOVEA_STORED_AS

}  // namespace fovea::FOVEA_ISA_NAMESPACE
