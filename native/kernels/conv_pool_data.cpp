#include <utility>

#include "kernels/conv_pool.h"
#include "kernels/padded.h"
#include "kernels/tap_conv.h"
#include "kernels/winners.h"
#include "runtime/memory.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// A winner hands its gradient to all that its convolution read: a run of channels in each row of the kernel. Runs are
// padded to whole vectors (with zeros, so that what lies behind a run is added nothing), and the sums of all channels
// whose winner is the same pixel stay in registers.
struct Runs {
    int vectors;         // of one run
    int count;           // vectors of all kernel rows
    long rows, columns;  // of the padded gradient, in pixels
    long pitch;          // floats of its rows
    long floats;         // of it, with what is added zeros behind the end
};

Runs make_runs(const ConvShape& s) {
    Runs r;
    r.vectors = static_cast<int>(ceil_div(static_cast<long>(s.kernel[2]) * s.cin, VL));
    r.count = r.vectors * s.kernel[1];
    r.rows = max_of(s.out[1] + s.kernel[1] - 1, s.in[1] + s.pad_lo[1]);
    r.columns = max_of(s.out[2] + s.kernel[2] - 1, s.in[2] + s.pad_lo[2]);
    r.pitch = r.columns * s.cin;
    r.floats = r.rows * r.pitch + r.vectors * VL;
    return r;
}

// [output channel][kernel row][vectors of the run] from [kernel row][kernel column][channel][output channel].
void pack_runs(const ConvShape& s, const Runs& r, const float* weight, float* out) {
    const long run = static_cast<long>(s.kernel[2]) * s.cin, width = static_cast<long>(r.vectors) * VL;
    for (long o = 0; o < s.cout; o++)
        for (long row = 0; row < s.kernel[1]; row++, out += width)
            for (long i = 0; i < width; i++) out[i] = i < run ? weight[(row * run + i) * s.cout + o] : 0.0f;
}

// The channels of one pooled pixel, by winner.
constexpr int winner_count = 4, none = 4, most_sorted = 4095;
struct Sorted {
    int count[winner_count];
    int* channel[winner_count];
};

// The winner of each gradient that is not 0, else `none`.
void find_winners(const float* dy, const float* gate, const uint8_t* winner, long count, uint8_t* to) {
    for (long i = 0; i < count; i += VL) {
        const Mask mask = first_lanes(count - i);
        const VecInt won = winners(winner + i, count - i);
        VecInt keeps = load(dy + i, mask) != Vec{};
        if (gate) keeps &= load(gate + i, mask) > Vec{};
        store_winners(to + i, keeps ? won : VecInt{} + none, count - i);
    }
}

// One place after the other, without branches: the counts are 12 bits each of one number.
void sort_channels(const uint8_t* winner, int channels, Sorted& to) {
    constexpr uint64_t bits = 12, all = (1 << bits) - 1;
    static_assert(most_sorted <= all, "a count must fit");
    uint64_t counts = 0;
    for (int o = 0; o < channels; o++) {
        const uint64_t k = winner[o], shift = k * bits;
        to.channel[0][k * channels + (counts >> shift & all)] = o;
        counts += uint64_t{1} << shift;
    }
    for (int k = 0; k < winner_count; k++) to.count[k] = static_cast<int>(counts >> k * bits & all);
}

// V vectors from number `first` on: to[offset of each] += sum over the listed channels of dy * weight.
template <int V>
__attribute__((noinline)) void add_runs(const int* channel, int count, const float* dy, const float* weight,
                                        long weight_step, float* to, const long* offset) {
    Vec acc[V];
    FOVEA_UNROLL
    for (int v = 0; v < V; v++) acc[v] = load(to + offset[v]);
    for (int i = 0; i < count; i++) {
        const long o = channel[i];
        const Vec g = broadcast(dy[o]);
        const float* w = weight + o * weight_step;
        FOVEA_UNROLL
        for (int v = 0; v < V; v++) acc[v] += g * load(w + v * VL);
    }
    FOVEA_UNROLL
    for (int v = 0; v < V; v++) store(to + offset[v], acc[v]);
}

using AddRuns = void (*)(const int*, int, const float*, const float*, long, float*, const long*);
constexpr int slice_vectors = 12;

template <int... V>
AddRuns find_runs(int vectors, std::integer_sequence<int, V...>) {
    static const AddRuns list[] = {add_runs<V + 1>...};
    return list[vectors - 1];
}

// sum += what the winners of one image hand on.
void add_image(const ConvShape& s, const Runs& r, const float* dy, const uint8_t* winner, const float* weight,
               const long* offset, Sorted& sorted, float* sum) {
    const auto vectors = std::make_integer_sequence<int, slice_vectors>{};
    const AddRuns add = find_runs(min_of(r.count, slice_vectors), vectors);
    const AddRuns last = find_runs((r.count - 1) % slice_vectors + 1, vectors);
    const long step = static_cast<long>(r.count) * VL;
    for (long y = 0; y < s.out[1]; y += 2)
        for (long x = 0; x < s.out[2]; x += 2, dy += s.cout, winner += s.cout) {
            sort_channels(winner, s.cout, sorted);
            for (int k = 0; k < winner_count; k++) {
                if (sorted.count[k] == 0) continue;
                float* to = sum + (y + k / 2) * r.pitch + (x + k % 2) * s.cin;
                for (int i = 0; i < r.count; i += slice_vectors)
                    (i + slice_vectors < r.count ? add : last)(sorted.channel[k], sorted.count[k], dy, weight + i * VL,
                                                               step, to, offset + i);
            }
        }
}

}  // namespace

size_t convpool_backward_data_scratch(const OpCall& call) {
    const ConvShape s = pooled_shape(call);
    return static_cast<size_t>(make_runs(s).count) * VL * s.cout;
}

void convpool_backward_data(const OpCall& call) {
    const ConvShape s = pooled_shape(call);
    const Runs r = make_runs(s);
    pack_runs(s, r, in(call, 4), call.scratch);
    long offset[max_run_vectors];
    for (int i = 0; i < r.count; i++) offset[i] = i / r.vectors * r.pitch + i % r.vectors * VL;
    const uint8_t* winner = static_cast<const uint8_t*>(call.operand[2]);
    const long joined = ceil_div(call.n, piece_count(s.macs(static_cast<int>(call.n)) / 4));
    const long pooled = s.out_pixels() / 4 * s.cout, width = static_cast<long>(s.in[2]) * s.cin;
    parallel(ceil_div(call.n, joined), [&](long piece) {
        const long lists = (winner_count + 1) * s.cout, bytes = round_up(pooled, sizeof(float)) / sizeof(float);
        float* sum = thread_scratch(r.floats + lists + bytes);
        uint8_t* won = reinterpret_cast<uint8_t*>(sum + r.floats + lists);
        Sorted sorted;
        for (int k = 0; k < winner_count; k++) sorted.channel[k] = reinterpret_cast<int*>(sum + r.floats) + k * s.cout;
        for (long image = piece * joined; image < min_of(call.n, (piece + 1) * joined); image++) {
            zero_floats_at(sum, r.floats);
            const float *dy = in(call, 1) + image * pooled,
                        *gate = in(call, 3) ? in(call, 3) + image * pooled : nullptr;
            find_winners(dy, gate, winner + image * pooled, pooled, won);
            add_image(s, r, dy, won, call.scratch, offset, sorted, sum);
            const float* from = sum + s.pad_lo[1] * r.pitch + s.pad_lo[2] * s.cin;
            float* dx = out(call, 0) + image * s.in[1] * width;
            for (long y = 0; y < s.in[1]; y++) copy_floats(dx + y * width, from + y * r.pitch, width);
        }
    });
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
