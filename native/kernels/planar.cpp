#include "kernels/planar.h"

#include <cstring>

#include "runtime/memory.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr long band_floats = (64 << 10) / 4;

// C channels x R rows x V vectors, from bias to the last tap; what is not a full tile of channels runs as a smaller
// one. As in tap_tile.cpp, every loop over `acc` must be unrolled fully.
template <int C, int R, int V>
__attribute__((noinline)) void planar_tile(const PlanarTile& t, const float* x, int channel, float* sums) {
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
    const Vec low = broadcast(t.epilogue->low), high = broadcast(t.epilogue->high);
    FOVEA_UNROLL
    for (int c = 0; c < C; c++) FOVEA_UNROLL
    for (int r = 0; r < R; r++) FOVEA_UNROLL
    for (int v = 0; v < V; v++) {
        if (t.epilogue->clamp) acc[c][r][v] = at_most(at_least(acc[c][r][v], low), high);
        store(sums + ((channel + c) * planar_rows + r) * planar_width + v * VL, acc[c][r][v]);
    }
}

// Channels of a tile: its sums, one row of input and a broadcast fit the registers.
constexpr int tile_channels = VECTOR_REGISTERS == 32 ? 6 : 3;

template <int R, int V>
void run_channels(const PlanarTile& t, const float* x, float* sums) {
    const int cout = t.shape->cout, tiles = static_cast<int>(ceil_div(cout, tile_channels));
    for (int i = 0; i < tiles; i++) {
        const int channel = cout * i / tiles;
        switch (cout * (i + 1) / tiles - channel) {
            case 1:
                planar_tile<1, R, V>(t, x, channel, sums);
                break;
            case 2:
                planar_tile<2, R, V>(t, x, channel, sums);
                break;
            case 3:
                planar_tile<3, R, V>(t, x, channel, sums);
                break;
#if defined(__AVX512F__) || defined(__aarch64__)
            case 4:
                planar_tile<4, R, V>(t, x, channel, sums);
                break;
            case 5:
                planar_tile<5, R, V>(t, x, channel, sums);
                break;
            default:
                planar_tile<6, R, V>(t, x, channel, sums);
#endif
        }
    }
}

// One row of channels-last pixels to planes.
void split_row(const float* in, long pixels, int channels, long plane, float* out) {
    if (channels == 1) {
        std::memcpy(out, in, pixels * sizeof(float));
        return;
    }
    for (int c = 0; c < channels; c++)
        for (long i = 0; i < pixels; i++) out[c * plane + i] = in[i * channels + c];
}

void zero(float* out, long count) { std::memset(out, 0, count * sizeof(float)); }

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

void copy_planes(const ConvShape& s, const Planes& planes, int begin, int end, const float* image, float* out) {
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
            for (int c = 0; c < s.cin; c++) {
                zero(row + c * planes.plane, inside ? left : size[2]);
                if (inside) zero(row + c * planes.plane + right, size[2] - right);
            }
            if (inside)
                split_row(image + ((z * s.in[1] + y) * s.in[2] + from[2] + left) * s.cin, right - left, s.cin,
                          planes.plane, row + left);
        }
}

void run_planar_tile(const PlanarTile& t, const float* x, int rows, long pixels, float* sums) {
    if (rows == 2)
        pixels > VL ? run_channels<2, 2>(t, x, sums) : run_channels<2, 1>(t, x, sums);
    else
        pixels > VL ? run_channels<1, 2>(t, x, sums) : run_channels<1, 1>(t, x, sums);
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
