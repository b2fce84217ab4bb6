#include "kernels/padded.h"

#include <cstring>

namespace fovea::FOVEA_ISA_NAMESPACE {

Bands make_bands(const ConvShape& s, int channels, long max_floats, long min_count) {
    Bands b;
    b.axis = s.out[0] > 1 ? 0 : s.out[1] > 1 ? 1 : 2;
    long slice = channels;
    for (int i = 0; i < 3; i++)
        if (i != b.axis) slice *= b.size[i] = window_span(s, i, s.out[i]);
    const long halo = window_span(s, b.axis, 1) - s.stride[b.axis];
    const long fitting = max_of(1L, (max_floats / slice - halo) / s.stride[b.axis]);
    const long wanted = max_of(1L, s.out[b.axis] / max_of(1L, min_count));
    b.count = static_cast<int>(ceil_div(s.out[b.axis], min_of(fitting, wanted)));
    b.positions = static_cast<int>(ceil_div(s.out[b.axis], b.count));
    b.count = static_cast<int>(ceil_div(s.out[b.axis], b.positions));
    b.size[b.axis] = window_span(s, b.axis, b.positions);
    b.floats_ = slice * b.size[b.axis];
    return b;
}

namespace {

void copy_row(float* to, const float* from, long count) { copy_floats(to, from, count); }
void copy_row(bf16* to, const bf16* from, long count) { std::memcpy(to, from, count * sizeof(bf16)); }
void zero_row(float* to, long count) { zero_floats_at(to, count); }
void zero_row(bf16* to, long count) { std::memset(to, 0, count * sizeof(bf16)); }

template <class S>
void fill_row(S* to, long count, int fill) {
    if (fill == 0) return zero_row(to, count);
    std::memset(to, fill, count * sizeof(S));
}

}  // namespace

template <class S>
void copy_padded(const ConvShape& s, const Bands& bands, int begin, int end, int channels, const S* image, S* out,
                 int fill) {
    int size[3], from[3];
    for (int i = 0; i < 3; i++) {
        size[i] = bands.size[i];
        from[i] = -s.pad_lo[i];
    }
    size[bands.axis] = window_span(s, bands.axis, end - begin);
    from[bands.axis] += begin * s.stride[bands.axis];
    const int left = min_of(size[2], max_of(0, -from[2]));
    const int right = max_of(left, min_of(size[2], s.in[2] - from[2]));
    const long row = static_cast<long>(size[2]) * channels;
    for (int z = from[0]; z < from[0] + size[0]; z++)
        for (int y = from[1]; y < from[1] + size[1]; y++, out += row) {
            if (z < 0 || z >= s.in[0] || y < 0 || y >= s.in[1]) {
                fill_row(out, row, fill);
                continue;
            }
            const S* in = image + ((static_cast<long>(z) * s.in[1] + y) * s.in[2] + from[2] + left) * channels;
            fill_row(out, static_cast<long>(left) * channels, fill);
            copy_row(out + left * channels, in, static_cast<long>(right - left) * channels);
            fill_row(out + right * channels, static_cast<long>(size[2] - right) * channels, fill);
        }
}

template void copy_padded<float>(const ConvShape&, const Bands&, int, int, int, const float*, float*, int);
template void copy_padded<bf16>(const ConvShape&, const Bands&, int, int, int, const bf16*, bf16*, int);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
