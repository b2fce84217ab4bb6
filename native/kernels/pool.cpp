// Pooling over windows. Activations are N,D,H,W,C; 1-D and 2-D have leading axes of 1.
#include "kernels/families.h"
#include "kernels/op_tools.h"
#include "kernels/winners.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// The ints of a pooling instruction begin with this.
struct Window {
    long channels, in[3], out[3], kernel[3], stride[3], dilation[3], pad_lo[3];
};
constexpr int window_ints = 19;

FOVEA_INLINE const Window& window(const OpCall& call) { return *reinterpret_cast<const Window*>(call.ints); }
FOVEA_INLINE long in_floats(const Window& w) { return w.in[0] * w.in[1] * w.in[2] * w.channels; }
FOVEA_INLINE long out_rows(const Window& w) { return w.out[0] * w.out[1]; }
FOVEA_INLINE long out_pixels(const Window& w) { return out_rows(w) * w.out[2]; }
FOVEA_INLINE long taps(const Window& w) { return w.kernel[0] * w.kernel[1] * w.kernel[2]; }

// Offsets of all taps from tap 0, for windows that lie inside of the input wholly.
struct Offsets {
    static constexpr long most = 64;
    long count, at[most];  // count 0: too many taps for the table

    FOVEA_INLINE explicit Offsets(const Window& w) : count(taps(w) <= most ? taps(w) : 0) {
        for (long i = 0; i < count; i++) {
            const long d = i / w.kernel[2] / w.kernel[1], h = i / w.kernel[2] % w.kernel[1], v = i % w.kernel[2];
            at[i] = ((d * w.dilation[0] * w.in[1] + h * w.dilation[1]) * w.in[2] + v * w.dilation[2]) * w.channels;
        }
    }
};

// The taps [low, high) of one window along each axis that lie inside of the input, and where tap 0 is.
struct Taps {
    const Offsets* offsets;
    long start[3], low[3], high[3];
    bool whole[3];

    FOVEA_INLINE void clip(const Window& w, int i, long position) {
        const long first = position * w.stride[i] - w.pad_lo[i], step = w.dilation[i], room = w.in[i] - first;
        start[i] = first;
        whole[i] = first >= 0 && (w.kernel[i] - 1) * step < room;
        if (whole[i]) {
            low[i] = 0;
            high[i] = w.kernel[i];
            return;
        }
        low[i] = first >= 0 ? 0 : step == 1 ? -first : ceil_div(-first, step);
        high[i] = min_of(w.kernel[i], room <= 0 ? 0 : step == 1 ? room : ceil_div(room, step));
    }

    // body(tap number, offset of the tap's pixel in the sample)
    template <class Body>
    FOVEA_INLINE void each(const Window& w, const Body& body) const {
        const long first = ((start[0] * w.in[1] + start[1]) * w.in[2] + start[2]) * w.channels;
        if (!whole[0] || !whole[1] || !whole[2] || offsets->count == 0) return each_inside(w, body);
        if (offsets->count == 4) {
            FOVEA_UNROLL
            for (int i = 0; i < 4; i++) body(i, first + offsets->at[i]);
        } else {
            for (long i = 0; i < offsets->count; i++) body(i, first + offsets->at[i]);
        }
    }

    template <class Body>
    FOVEA_INLINE void each_inside(const Window& w, const Body& body) const {
        for (long d = low[0]; d < high[0]; d++) {
            const long plane = (start[0] + d * w.dilation[0]) * w.in[1];
            for (long h = low[1]; h < high[1]; h++) {
                const long row = (plane + start[1] + h * w.dilation[1]) * w.in[2] + start[2];
                const long tap = (d * w.kernel[1] + h) * w.kernel[2];
                for (long v = low[2]; v < high[2]; v++) body(tap + v, (row + v * w.dilation[2]) * w.channels);
            }
        }
    }
};

// body(taps, offset of the output pixel in the sample, its place along each axis) for the pixels of one output row.
template <class Body>
FOVEA_INLINE void over_row(const Window& w, const Offsets& offsets, long row, const Body& body) {
    Taps t;
    t.offsets = &offsets;
    const long at[2] = {row / w.out[1], row % w.out[1]};
    t.clip(w, 0, at[0]);
    t.clip(w, 1, at[1]);
    for (long x = 0; x < w.out[2]; x++) {
        t.clip(w, 2, x);
        body(t, (row * w.out[2] + x) * w.channels, at[0], at[1], x);
    }
}

// body(sample, first row, behind the last row) over output rows.
template <class Body>
FOVEA_INLINE void over_output(const Window& w, long n, const Body& body) {
    const long rows = out_rows(w);
    over_rows(n * rows, w.out[2] * w.channels * taps(w), [&](long begin, long end) {
        for (long row = begin; row < end; row++) body(row / rows, row % rows);
    });
}

// Windows of 2x2 without padding that touch each other: no taps to count, and this is what most networks have.
FOVEA_INLINE bool two_by_two(const Window& w) {
    bool plain = w.kernel[0] == 1 && w.stride[0] == 1 && w.pad_lo[0] == 0 && w.in[0] == w.out[0];
    for (int i = 1; i < 3; i++)
        plain = plain && w.kernel[i] == 2 && w.stride[i] == 2 && w.dilation[i] == 1 && w.pad_lo[i] == 0 &&
                2 * w.out[i] <= w.in[i];
    return plain;
}

// One row of outputs of such windows; `from` is the sample.
template <class Index, class S>
void pool_row(const Window& w, const S* from, long row, S* y, Index* index) {
    const long pitch = w.in[2] * w.channels;
    const S* top = from + (row / w.out[1] * w.in[1] + row % w.out[1] * 2) * pitch;
    y += row * w.out[2] * w.channels;
    if (index) index += row * w.out[2] * w.channels;
    for (long x = 0; x < w.out[2]; x++, top += 2 * w.channels)
        for (long c = 0; c < w.channels; c += VL) {
            const long lanes = min_of<long>(VL, w.channels - c);
            const Mask mask = first_lanes(lanes);
            const S *left = top + c, *right = left + w.channels;
            const Vec in[4] = {load(left, mask), load(right, mask), load(left + pitch, mask),
                               load(right + pitch, mask)};
            const Vec best = largest(in);
            store(y, best, mask);
            y += lanes;
            if (index) {
                store_winners(index, first_winner(in, best), lanes);
                index += lanes;
            }
        }
}

// y, index (which tap won, for backward; may be null), x; ints: Window. The first maximum wins; NaN wins and stays.
template <class Index, class S>
void maxpool(const OpCall& call) {
    const Window& w = window(call);
    const Offsets offsets(w);
    const bool simple = two_by_two(w);
    over_output(w, call.n, [&](long sample, long row) {
        const S* from = in<S>(call, 2) + sample * in_floats(w);
        const long base = sample * out_pixels(w) * w.channels;
        S* y = out<S>(call, 0) + base;
        Index* index = static_cast<Index*>(call.operand[1]);
        if (simple) return pool_row<Index, S>(w, from, row, y, index ? index + base : nullptr);
        over_row(w, offsets, row, [&](const Taps& t, long pixel, long, long, long) {
            for (long c = 0; c < w.channels; c += VL) {
                const Mask mask = first_lanes(w.channels - c);
                Vec best = broadcast(-__builtin_inff());
                VecInt where = VecInt{} - 1;  // the first tap wins even over -infinity
                t.each(w, [&](long tap, long offset) {
                    const Vec v = load(from + offset + c, mask);
                    const VecInt wins = (~(v <= best) & (best == best)) | (where < 0);
                    best = wins ? v : best;
                    where = wins ? VecInt{} + static_cast<int32_t>(tap) : where;
                });
                store(y + pixel + c, best, mask);
                if (index) store_winners(index + base + pixel + c, where, w.channels - c);
            }
        });
    });
}

// Windows that do not meet and leave nothing out: every element is written once, without reading.
FOVEA_INLINE bool tiles_exactly(const Window& w) {
    for (int i = 0; i < 3; i++) {
        const bool covers = w.kernel[i] == w.stride[i] && w.out[i] * w.stride[i] == w.in[i];
        if (!covers || w.dilation[i] != 1 || w.pad_lo[i] != 0) return false;
    }
    return true;
}

// dx, dy, index, gate (the pooled values where a ReLU came before, else null: its gradient is 0 where they are);
// ints: Window. A piece is one sample: windows may overlap.
template <class Index, class S>
void maxpool_backward(const OpCall& call) {
    const Window& w = window(call);
    const Offsets offsets(w);
    const bool exact = tiles_exactly(w);
    parallel(call.n, [&](long sample) {
        S* target = out<S>(call, 0) + sample * in_floats(w);
        for (long i = 0; !exact && i < in_floats(w); i++) target[i] = 0;
        const long base = sample * out_pixels(w) * w.channels;
        const S *dy = in<S>(call, 1) + base, *gate = call.operand[3] ? in<S>(call, 3) + base : nullptr;
        const Index* index = static_cast<const Index*>(call.operand[2]) + base;
        for (long row = 0; row < out_rows(w); row++)
            over_row(w, offsets, row, [&](const Taps& t, long pixel, long, long, long) {
                for (long c = 0; c < w.channels; c += VL) {
                    const Mask mask = first_lanes(w.channels - c);
                    Vec g = load(dy + pixel + c, mask);
                    if (gate) g = load(gate + pixel + c, mask) > 0.0f ? g : Vec{};
                    const VecInt won = winners(index + pixel + c, w.channels - c);
                    t.each(w, [&](long tap, long offset) {
                        const Vec share = won == static_cast<int32_t>(tap) ? g : Vec{};
                        S* to = target + offset + c;
                        store(to, exact ? share : load(to, mask) + share, mask);
                    });
                }
            });
    });
}

// What a window's sum is divided by: the product over axes of counts that follow the Window in the ints.
FOVEA_INLINE float inverse_count(const OpCall& call, const Window& w, long z, long y, long x) {
    const long *first = call.ints + window_ints, *second = first + w.out[0], *third = second + w.out[1];
    return 1.0f / static_cast<float>(first[z] * second[y] * third[x]);
}

// y, x; ints: Window, then the divisors along each axis for every output position.
template <class S>
void avgpool(const OpCall& call) {
    const Window& w = window(call);
    const Offsets offsets(w);
    over_output(w, call.n, [&](long sample, long row) {
        const S* from = in<S>(call, 1) + sample * in_floats(w);
        S* y = out<S>(call, 0) + sample * out_pixels(w) * w.channels;
        over_row(w, offsets, row, [&](const Taps& t, long pixel, long d, long h, long v) {
            const Vec factor = broadcast(inverse_count(call, w, d, h, v));
            for (long c = 0; c < w.channels; c += VL) {
                const Mask mask = first_lanes(w.channels - c);
                Vec sum = {};
                t.each(w, [&](long, long offset) { sum += load(from + offset + c, mask); });
                store(y + pixel + c, sum * factor, mask);
            }
        });
    });
}

// dx, dy; ints as avgpool.
template <class S>
void avgpool_backward(const OpCall& call) {
    const Window& w = window(call);
    const Offsets offsets(w);
    parallel(call.n, [&](long sample) {
        S* target = out<S>(call, 0) + sample * in_floats(w);
        for (long i = 0; i < in_floats(w); i++) target[i] = 0;
        const S* dy = in<S>(call, 1) + sample * out_pixels(w) * w.channels;
        for (long row = 0; row < out_rows(w); row++)
            over_row(w, offsets, row, [&](const Taps& t, long pixel, long d, long h, long v) {
                const Vec factor = broadcast(inverse_count(call, w, d, h, v));
                for (long c = 0; c < w.channels; c += VL) {
                    const Mask mask = first_lanes(w.channels - c);
                    const Vec share = load(dy + pixel + c, mask) * factor;
                    t.each(w, [&](long, long offset) {
                        S* to = target + offset + c;
                        store(to, load(to, mask) + share, mask);
                    });
                }
            });
    });
}

#define MAXPOOL(name, Index)                                                                             \
    {name, 3, window_ints, 0, maxpool<Index, float>, nullptr, operands(0, 2), maxpool<Index, bf16>}, {   \
        name "_backward", 4, window_ints, 0, maxpool_backward<Index, float>, nullptr, operands(0, 1, 3), \
            maxpool_backward<Index, bf16>                                                                \
    }

const OpKernel list[] = {
    MAXPOOL("maxpool_uint8", uint8_t),
    MAXPOOL("maxpool_int32", int32_t),
    {"avgpool", 2, -1, 0, avgpool<float>, nullptr, operands(0, 1), avgpool<bf16>},
    {"avgpool_backward", 2, -1, 0, avgpool_backward<float>, nullptr, operands(0, 1), avgpool_backward<bf16>},
};

}  // namespace

OpList pool_ops() { return op_list(list); }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
