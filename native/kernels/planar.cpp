#include "kernels/planar.h"

#include "kernels/winners.h"
#include "runtime/memory.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr long band_floats = (64 << 10) / 4;

// What becomes of the sums of one channel: they are clamped and stored,
struct StoreSums {
    float* sums;

    template <int R, int V>
    FOVEA_INLINE void finish(const Epilogue& e, int channel, Vec (&acc)[R][V]) const {
        const Vec low = broadcast(e.low), high = broadcast(e.high);
        FOVEA_UNROLL
        for (int r = 0; r < R; r++) FOVEA_UNROLL
        for (int v = 0; v < V; v++) {
            if (e.clamp) acc[r][v] = at_most(at_least(acc[r][v], low), high);
            store(sums + (channel * planar_rows + r) * planar_width + v * VL, acc[r][v]);
        }
    }
};

// or the largest of each 2x2 is, with the number of the first that is it. Clamped after that: only where the clamp
// decides can another one have won, and there no gradient passes.
template <bool Winners>
struct StorePooled {
    float *pooled, *winners;

    template <int R, int V>
    FOVEA_INLINE void finish(const Epilogue& e, int channel, Vec (&acc)[R][V]) const {
        const Vec above = V > 1 ? acc[0][V - 1] : Vec{}, below = V > 1 ? acc[R - 1][V - 1] : Vec{};
        const Vec in[4] = {pick_lanes<EvenLanes>(acc[0][0], above), pick_lanes<OddLanes>(acc[0][0], above),
                           pick_lanes<EvenLanes>(acc[R - 1][0], below), pick_lanes<OddLanes>(acc[R - 1][0], below)};
        const Vec best = largest(in);
        store(pooled + channel * VL, e.clamp ? at_most(at_least(best, broadcast(e.low)), broadcast(e.high)) : best);
        if constexpr (Winners)  // numbers that are interleaved like values
            store(winners + channel * VL, reinterpret_cast<Vec>(first_winner(in, best)));
    }
};

// C channels x R rows x V vectors, from bias to the last tap; what is not a full tile of channels runs as a smaller
// one. As in tap_tile.cpp, every loop over `acc` must be unrolled fully.
template <int C, int R, int V, class To>
__attribute__((noinline)) void planar_tile(const PlanarTile& t, const float* x, int channel, const To& to) {
    const int cout = t.shape->cout;
    Vec acc[C][R][V];
    FOVEA_UNROLL
    for (int c = 0; c < C; c++) {
        const Vec start = t.epilogue->bias ? broadcast(t.epilogue->bias[channel + c]) : Vec{};
        FOVEA_UNROLL
        for (int r = 0; r < R; r++) FOVEA_UNROLL
        for (int v = 0; v < V; v++) acc[c][r][v] = start;
    }
    const float* weight = t.weight + channel;
    const long row_step = t.row_step;
    const int* offset = t.planes->offset;
    for (const int* end = offset + t.planes->depth; offset < end; offset++, weight += cout) {
        const float* from = x + *offset;
        Vec in[R][V];
        FOVEA_UNROLL
        for (int r = 0; r < R; r++) FOVEA_UNROLL
        for (int v = 0; v < V; v++) in[r][v] = load(from + r * row_step + v * VL);
        FOVEA_UNROLL
        for (int c = 0; c < C; c++) {
            const Vec w = broadcast(weight[c]);
            FOVEA_UNROLL
            for (int r = 0; r < R; r++) FOVEA_UNROLL
            for (int v = 0; v < V; v++) acc[c][r][v] += in[r][v] * w;
        }
    }
    FOVEA_UNROLL
    for (int c = 0; c < C; c++) to.finish(*t.epilogue, channel + c, acc[c]);
}

// Channels of a tile: its sums, one row of input and a broadcast fit the registers.
constexpr int tile_channels = VECTOR_REGISTERS == 32 ? 6 : 3;

template <int R, int V, class To, int... C>
void run_channels(const PlanarTile& t, const float* x, const To& to, std::integer_sequence<int, C...>) {
    static void (*const list[])(const PlanarTile&, const float*, int, const To&) = {planar_tile<C + 1, R, V, To>...};
    const int cout = t.shape->cout, tiles = static_cast<int>(ceil_div(cout, tile_channels));
    for (int i = 0; i < tiles; i++) {
        const int channel = cout * i / tiles;
        list[cout * (i + 1) / tiles - channel - 1](t, x, channel, to);
    }
}
template <int R, class To>
void run_channels(const PlanarTile& t, const float* x, long pixels, const To& to) {
    const auto channels = std::make_integer_sequence<int, tile_channels>{};
    pixels > VL ? run_channels<R, 2>(t, x, to, channels) : run_channels<R, 1>(t, x, to, channels);
}

// One row of channels-last pixels to planes.
void split_row(const float* in, long pixels, int channels, long plane, float* out) {
    if (channels == 1) {
        copy_floats(out, in, pixels);
        return;
    }
    for (int c = 0; c < channels; c++)
        for (long i = 0; i < pixels; i++) out[c * plane + i] = in[i * channels + c];
}

}  // namespace

bool planar_fits(const ConvShape& s) {
    return s.groups == 1 && s.stride[2] == 1 && s.taps() * s.cin <= max_planar_depth && s.cout <= max_planar_channels;
}

Planes make_planes(const ConvShape& s, long min_bands, int unit) {
    Planes p;
    Bands& b = p.bands = make_bands(s, s.cin, band_floats, min_bands);
    if (b.positions % unit != 0) {
        b.positions = static_cast<int>(round_up(b.positions, unit));
        b.count = static_cast<int>(ceil_div(s.out[b.axis], b.positions));
        b.size[b.axis] = window_span(s, b.axis, b.positions);
    }
    p.pitch = b.size[2];
    p.plane = p.pitch * b.size[0] * b.size[1];
    p.floats = p.plane * s.cin + planar_rows * p.pitch + planar_width;
    p.depth = s.taps() * s.cin;
    int* offset = p.offset;
    for (int z = 0; z < s.kernel[0]; z++)
        for (int y = 0; y < s.kernel[1]; y++)
            for (int x = 0; x < s.kernel[2]; x++)
                for (int c = 0; c < s.cin; c++)
                    *offset++ =
                        static_cast<int>(c * p.plane + (z * s.dilation[0] * b.size[1] + y * s.dilation[1]) * p.pitch +
                                         x * s.dilation[2]);
    return p;
}

void copy_planes(const ConvShape& s, const Planes& planes, int begin, int end, const float* image, bool border,
                 float* out) {
    const Bands& bands = planes.bands;
    int size[3], from[3];
    for (int i = 0; i < 3; i++) {
        size[i] = i == bands.axis ? window_span(s, i, end - begin) : bands.size[i];
        from[i] = -s.pad_lo[i] + (i == bands.axis ? begin * s.stride[i] : 0);
    }
    const int left = min_of(size[2], max_of(0, -from[2]));
    const int right = max_of(left, min_of(size[2], s.in[2] - from[2]));
    for (int i = 0; i < size[0]; i++)
        for (int j = 0; j < size[1]; j++) {
            float* row = out + (static_cast<long>(i) * bands.size[1] + j) * planes.pitch;
            const long z = from[0] + i, y = from[1] + j;
            const bool inside = z >= 0 && z < s.in[0] && y >= 0 && y < s.in[1];
            for (int c = 0; border && c < s.cin; c++) {
                zero_floats_at(row + c * planes.plane, inside ? left : size[2]);
                if (inside) zero_floats_at(row + c * planes.plane + right, size[2] - right);
            }
            if (inside)
                split_row(image + ((z * s.in[1] + y) * s.in[2] + from[2] + left) * s.cin, right - left, s.cin,
                          planes.plane, row + left);
        }
}

void run_planar_tile(const PlanarTile& t, const float* x, int rows, long pixels, float* sums) {
    const StoreSums to{sums};
    rows == 2 ? run_channels<2>(t, x, pixels, to) : run_channels<1>(t, x, pixels, to);
}

void run_pooled_tile(const PlanarTile& t, const float* x, long pixels, float* pooled, float* winners) {
    if (winners)
        run_channels<2>(t, x, 2 * pixels, StorePooled<true>{pooled, winners});
    else
        run_channels<2>(t, x, 2 * pixels, StorePooled<false>{pooled, nullptr});
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
