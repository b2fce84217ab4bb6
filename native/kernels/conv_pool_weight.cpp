#include "kernels/conv_pool.h"

#include <utility>

#include "kernels/padded.h"
#include "kernels/winners.h"
#include "runtime/memory.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// What one piece reads of an image or a band of it. The input is copied so that all taps that one output meets are one
// run of memory: out[x][y][kernel column][channel], where the taps of output (y, x) begin at [x][y].
struct Patches {
    const ConvShape* s;
    Bands bands;
    long run;      // floats from one kernel row to the next: whole vectors, which lie aligned, where that adds none
    long taken;    // floats of a kernel row
    long columns;  // floats of the copy between outputs that are neighbours in a row
    long floats;   // of the copy
    long padded_floats;
};

constexpr long patch_floats = (128 << 10) / 4;
constexpr long most_sums = 64;

Patches make_patches(const ConvShape& s) {
    Patches p;
    p.s = &s;
    p.taken = static_cast<long>(s.kernel[2]) * s.cin;
    const long whole = round_up(p.taken, VL), rows = s.kernel[1];
    p.run = whole * rows == round_up(p.taken * rows, VL) ? whole : p.taken;
    p.bands = make_bands(s, static_cast<int>(p.run), patch_floats, 1);
    p.bands.positions = static_cast<int>(round_up(p.bands.positions, 2));
    p.bands.count = static_cast<int>(ceil_div(s.out[1], p.bands.positions));
    p.bands.size[1] = window_span(s, 1, p.bands.positions);
    p.columns = p.bands.size[1] * p.run;
    p.floats = s.out[2] * p.columns + rows * p.run + VL;
    p.padded_floats = static_cast<long>(p.bands.size[1]) * p.bands.size[2] * s.cin + p.run + VL;
    return p;
}

// Copies at least `floats` of these, a fixed number that is cheap.
template <int floats>
FOVEA_INLINE void copy_run(const float* from, float* to, long count) {
    for (long i = 0; i < count; i += floats) __builtin_memcpy(to + i, from + i, floats * sizeof(float));
}

// Rows of the padded input (`padded`, whose end may be read a vector too far) to runs. Copies overlap: the end of each
// is written again by the next row, and columns are written in order.
void spread(const Patches& p, const float* padded, float* out) {
    const ConvShape& s = *p.s;
    const long rows = p.bands.size[1], pitch = static_cast<long>(p.bands.size[2]) * s.cin;
    for (long x = 0; x < s.out[2]; x++) {
        const float* from = padded + x * s.cin;
        float* to = out + x * p.columns;
        for (long y = 0; y < rows; y++, from += pitch, to += p.run) {
            if (p.taken <= 4)
                copy_run<4>(from, to, p.taken);
            else if (p.taken <= 8)
                copy_run<8>(from, to, p.taken);
            else
                copy_run<VL>(from, to, p.taken);
        }
    }
}

// Gradients of one band: masked by the gate, and where each one's winner is behind its window's first output.
struct Winners {
    float* g;
    int32_t* offset;
};

void read_winners(const Patches& p, const float* dy, const float* gate, const uint8_t* index, long count,
                  const Winners& to) {
    const VecInt right = VecInt{} + static_cast<int32_t>(p.columns), below = VecInt{} + static_cast<int32_t>(p.run);
    for (long i = 0; i < count; i += VL) {
        const Mask mask = first_lanes(count - i);
        Vec g = load(dy + i, mask);
        if (gate) g = load(gate + i, mask) > 0.0f ? g : Vec{};
        const VecInt won = winners(index + i, count - i);
        const VecInt offset = (-(won & 1) & right) + (-(won >> 1) & below);
        store(to.g + i, g);
        __builtin_memcpy(to.offset + i, &offset, sizeof offset);
    }
}

struct BandArgs {
    const float* patches;
    Winners winners;
    long rows, pixels;  // pooled ones
    long row, pixel;    // floats of the copy between pooled rows, between pooled pixels
    int channels;       // of the output
    float* sum;         // [channel][length of a sum]
    long sum_step;      // floats between channels
    bool accumulate;
};

// C channels x V vectors of one slice of the taps; every loop over `acc` must be unrolled fully.
template <int C, int V>
__attribute__((noinline)) void add_band(const BandArgs& a, int channel, long slice) {
    Vec acc[C][V];
    float* sum = a.sum + channel * a.sum_step + slice;
    FOVEA_UNROLL
    for (int c = 0; c < C; c++) FOVEA_UNROLL
    for (int v = 0; v < V; v++) acc[c][v] = a.accumulate ? load(sum + c * a.sum_step + v * VL) : Vec{};
    const float* g = a.winners.g + channel;
    const int32_t* offset = a.winners.offset + channel;
    for (long y = 0; y < a.rows; y++) {
        const float* window = a.patches + y * a.row + slice;
        for (long x = 0; x < a.pixels; x++, window += a.pixel, g += a.channels, offset += a.channels) {
            FOVEA_UNROLL
            for (int c = 0; c < C; c++) {
                const Vec value = broadcast(g[c]);
                const float* taps = window + offset[c];
                FOVEA_UNROLL
                for (int v = 0; v < V; v++) acc[c][v] += value * load(taps + v * VL);
            }
        }
    }
    FOVEA_UNROLL
    for (int c = 0; c < C; c++) FOVEA_UNROLL
    for (int v = 0; v < V; v++) store(sum + c * a.sum_step + v * VL, acc[c][v]);
}

constexpr int accumulators = VECTOR_REGISTERS == 32 ? 24 : 12;
constexpr int slice_vectors = 12;

// The most channels at once that divide all, so that there is no rest.
template <int V>
void add_slice(const BandArgs& a, long slice) {
    constexpr int most = accumulators / V;
    int c = 0;
    if constexpr (most >= 6)
        if (a.channels % 6 == 0)
            for (; c < a.channels; c += 6) add_band<6, V>(a, c, slice);
    if constexpr (most >= 4)
        for (; c + 4 <= a.channels; c += 4) add_band<4, V>(a, c, slice);
    if constexpr (most >= 2)
        for (; c + 2 <= a.channels; c += 2) add_band<2, V>(a, c, slice);
    for (; c < a.channels; c++) add_band<1, V>(a, c, slice);
}

template <int... V>
void add_slice(int vectors, const BandArgs& a, long slice, std::integer_sequence<int, V...>) {
    static void (*const list[])(const BandArgs&, long) = {add_slice<V + 1>...};
    list[vectors - 1](a, slice);
}

// Four sums at a time, as one would wait for each addition.
void add_bias(const BandArgs& a, float* sum) {
    const long pixels = a.rows * a.pixels, step = a.channels;
    for (int c = 0; c < a.channels; c += VL) {
        const Mask mask = first_lanes(a.channels - c);
        const float* g = a.winners.g + c;
        Vec total[4] = {a.accumulate ? load(sum + c) : Vec{}};
        long i = 0;
        for (; i + 4 <= pixels; i += 4, g += 4 * step) FOVEA_UNROLL
        for (int k = 0; k < 4; k++) total[k] += load(g + k * step, mask);
        for (; i < pixels; i++, g += step) total[0] += load(g, mask);
        store(sum + c, (total[0] + total[1]) + (total[2] + total[3]));
    }
}

// One partial sum: [channel][taps and input channels, whole vectors], then the bias.
struct Sums {
    long step, floats, count;
};

Sums make_sums(const Patches& p, long n) {
    const ConvShape& s = *p.s;
    const long units = n * p.bands.count;
    Sums sums;
    sums.step = round_up(p.run * s.kernel[1], VL);
    sums.floats = sums.step * s.cout + round_up(s.cout, VL);
    const double work = s.macs(static_cast<int>(n)) / 4;
    sums.count = max_of(1L, min_of(min_of(units, most_sums), static_cast<long>(work / (64 << 10))));
    return sums;
}

// The partial sums in their order; a piece is a vector of taps and input channels for all output channels.
void add_sums(const ConvShape& s, const Patches& p, const Sums& sums, const float* part, float* dw, float* db) {
    const auto total = [&](long at) {
        Vec result = load(part + at);
        for (long k = 1; k < sums.count; k++) result += load(part + at + k * sums.floats);
        return result;
    };
    parallel(sums.step / VL, [&](long piece) {
        for (long o = 0; o < s.cout; o++) {
            const Vec value = total(o * sums.step + piece * VL);
            for (long l = 0; l < VL; l++) {
                const long row = (piece * VL + l) / p.run, at = (piece * VL + l) % p.run;
                if (row < s.kernel[1] && at < p.taken) dw[(row * p.taken + at) * s.cout + o] = value[l];
            }
        }
    });
    for (long o = 0; db && o < s.cout; o += VL) store(db + o, total(sums.step * s.cout + o), first_lanes(s.cout - o));
}

}  // namespace

size_t convpool_backward_scratch(const OpCall& call) {
    const ConvShape s = pooled_shape(call);
    const Sums sums = make_sums(make_patches(s), call.n);
    return static_cast<size_t>(sums.count * sums.floats);
}

void convpool_backward_weight(const OpCall& call) {
    const ConvShape s = pooled_shape(call);
    const long ph = s.out[1] / 2, pw = s.out[2] / 2;
    const Patches p = make_patches(s);
    const long units = call.n * p.bands.count;
    const Sums sums = make_sums(p, call.n);
    const long band_outputs = p.bands.positions / 2 * pw * s.cout, row_floats = band_outputs + VL;
    const uint8_t* index = static_cast<const uint8_t*>(call.operand[4]);
    parallel(sums.count, [&](long k) {
        float* copy = thread_scratch(p.floats + p.padded_floats + 2 * row_floats);
        float *padded = copy + p.floats, *g = padded + p.padded_floats;
        BandArgs a;
        a.patches = copy;
        a.winners = {g, reinterpret_cast<int32_t*>(g + row_floats)};
        a.row = 2 * p.run;
        a.pixel = 2 * p.columns;
        a.pixels = pw;
        a.channels = s.cout;
        a.sum = call.scratch + k * sums.floats;
        a.sum_step = sums.step;
        a.accumulate = false;
        for (long unit = units * k / sums.count; unit < units * (k + 1) / sums.count; unit++) {
            const long image = unit / p.bands.count;
            const int begin = static_cast<int>(unit % p.bands.count) * p.bands.positions,
                      end = min_of(s.out[1], begin + p.bands.positions);
            copy_padded(s, p.bands, begin, end, s.cin, in(call, 2) + image * s.in_pixels() * s.cin, padded);
            spread(p, padded, copy);
            const long first = (image * ph + begin / 2) * pw * s.cout;
            a.rows = (end - begin) / 2;
            read_winners(p, in(call, 3) + first, in(call, 5) ? in(call, 5) + first : nullptr, index + first,
                         a.rows * pw * s.cout, a.winners);
            for (long slice = 0; slice < sums.step; slice += slice_vectors * VL)
                add_slice(static_cast<int>(min_of<long>(slice_vectors, (sums.step - slice) / VL)), a, slice,
                          std::make_integer_sequence<int, slice_vectors>{});
            add_bias(a, a.sum + sums.step * s.cout);
            a.accumulate = true;
        }
    });
    add_sums(s, p, sums, call.scratch, out(call, 0), out(call, 1));
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
