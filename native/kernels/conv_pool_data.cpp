#include <cstring>
#include <utility>

#include "kernels/conv_pool.h"
#include "kernels/tap_conv.h"
#include "kernels/vec.h"
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
struct Sorted {
    int count[4];
    int* channel[4];
};

void sort_channels(const float* dy, const float* gate, const uint8_t* winner, int channels, Sorted& to) {
    for (int k = 0; k < 4; k++) to.count[k] = 0;
    for (int o = 0; o < channels; o++) {
        const int k = winner[o] & 3;
        to.channel[k][to.count[k]] = o;
        to.count[k] += dy[o] != 0.0f && (!gate || gate[o] > 0.0f);
    }
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
void add_image(const ConvShape& s, const Runs& r, const float* dy, const float* gate, const uint8_t* winner,
               const float* weight, const long* offset, Sorted& sorted, float* sum) {
    const AddRuns add = find_runs(min_of(r.count, slice_vectors), std::make_integer_sequence<int, slice_vectors>{});
    const int rest = r.count % slice_vectors;
    const AddRuns last = rest ? find_runs(rest, std::make_integer_sequence<int, slice_vectors>{}) : add;
    for (long y = 0; y < s.out[1]; y += 2)
        for (long x = 0; x < s.out[2]; x += 2, dy += s.cout, gate += gate ? s.cout : 0, winner += s.cout) {
            sort_channels(dy, gate, winner, s.cout, sorted);
            for (int k = 0; k < 4; k++) {
                if (sorted.count[k] == 0) continue;
                float* to = sum + (y + k / 2) * r.pitch + (x + k % 2) * s.cin;
                for (int i = 0; i < r.count; i += slice_vectors)
                    (i + slice_vectors > r.count ? last : add)(sorted.channel[k], sorted.count[k], dy, weight + i * VL,
                                                               static_cast<long>(r.count) * VL, to, offset + i);
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
    const uint8_t* winners = static_cast<const uint8_t*>(call.operand[2]);
    const long joined = ceil_div(call.n, piece_count(s.macs(static_cast<int>(call.n)) / 4));
    const long pooled = s.out_pixels() / 4 * s.cout, width = static_cast<long>(s.in[2]) * s.cin;
    parallel(ceil_div(call.n, joined), [&](long piece) {
        float* sum = thread_scratch(r.floats + 4 * s.cout);
        Sorted sorted;
        for (int k = 0; k < 4; k++) sorted.channel[k] = reinterpret_cast<int*>(sum + r.floats) + k * s.cout;
        for (long image = piece * joined; image < min_of(call.n, (piece + 1) * joined); image++) {
            std::memset(sum, 0, r.floats * sizeof(float));
            const float *dy = in(call, 1) + image * pooled,
                        *gate = in(call, 3) ? in(call, 3) + image * pooled : nullptr;
            add_image(s, r, dy, gate, winners + image * pooled, call.scratch, offset, sorted, sum);
            const float* from = sum + s.pad_lo[1] * r.pitch + s.pad_lo[2] * s.cin;
            float* dx = out(call, 0) + image * s.in[1] * width;
            for (long y = 0; y < s.in[1]; y++) std::memcpy(dx + y * width, from + y * r.pitch, width * sizeof(float));
        }
    });
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
