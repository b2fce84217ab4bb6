#include "kernels/tap_conv.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

void set_strides(const int size[3], int channels, long stride[3], long& image) {
    stride[2] = channels;
    stride[1] = stride[2] * size[2];
    stride[0] = stride[1] * size[1];
    image = stride[0] * size[0];
}

bool needs_check(const TapConv& c) {
    for (int t = 0; t < c.tap_count; t++)
        for (int i = 0; i < 3; i++) {
            const long last = static_cast<long>(c.positions[i] - 1) * c.step[i] + c.taps[t].offset[i];
            if (c.taps[t].offset[i] < 0 || last >= c.in[i]) return true;
        }
    return false;
}

// A 1x1 convolution is a plain matrix product: all pixels of all images are one row of positions.
void flatten_if_pointwise(TapConv& c) {
    if (c.tap_count != 1 || c.checked || c.in_image != c.position_count() * c.in_stride[2] ||
        c.out_image != c.position_count() * c.out_stride[2])
        return;
    for (int i = 0; i < 3; i++)
        if (c.step[i] != 1 || c.taps[0].offset[i] != 0) return;
    for (int i = 0; i < 2; i++)  // positions of a strided phase may fill an image without lying side by side
        if (c.out_stride[i] != c.out_stride[i + 1] * c.positions[i + 1]) return;
    c.positions[2] = c.in[2] = static_cast<int>(c.images * c.position_count());
    c.positions[0] = c.positions[1] = c.in[0] = c.in[1] = c.images = 1;
}

void make_forward(const ConvShape& s, TapConv& c) {
    set_strides(s.in, s.cin, c.in_stride, c.in_image);
    set_strides(s.out, s.cout, c.out_stride, c.out_image);
    c.out_origin = 0;
    for (int i = 0; i < 3; i++) {
        c.positions[i] = s.out[i];
        c.in[i] = s.in[i];
        c.step[i] = s.stride[i];
    }
    c.depth = s.group_cin();
    c.columns = s.group_cout();
    for (int m0 = 0; m0 < s.kernel[0]; m0++)
        for (int m1 = 0; m1 < s.kernel[1]; m1++)
            for (int m2 = 0; m2 < s.kernel[2]; m2++) {
                const int m[3] = {m0, m1, m2};
                Tap& tap = c.taps[c.tap_count];
                tap.weight = c.tap_count++;
                for (int i = 0; i < 3; i++) tap.offset[i] = m[i] * s.dilation[i] - s.pad_lo[i];
            }
}

// Along one axis, tap m of output p meets input q = p * stride + m * dilation - pad. For q = r + j * stride the taps
// are those with r + pad - m * dilation divisible by the stride, and p = j + (r + pad - m * dilation) / stride.
struct AxisTaps {
    int count = 0;
    int m[max_taps], offset[max_taps];
};

void axis_taps(const ConvShape& s, int axis, int remainder, AxisTaps& out) {
    for (int m = s.kernel[axis] - 1; m >= 0; m--) {  // ascending addresses
        const long distance = static_cast<long>(remainder) + s.pad_lo[axis] - static_cast<long>(m) * s.dilation[axis];
        if (distance % s.stride[axis]) continue;
        out.m[out.count] = m;
        out.offset[out.count++] = static_cast<int>(distance / s.stride[axis]);
    }
}

void make_backward_data(const ConvShape& s, int phase, TapConv& c) {
    const int remainder[3] = {phase / s.stride[2] / s.stride[1], phase / s.stride[2] % s.stride[1],
                              phase % s.stride[2]};
    set_strides(s.out, s.cout, c.in_stride, c.in_image);
    set_strides(s.in, s.cin, c.out_stride, c.out_image);
    c.out_origin = 0;
    AxisTaps axis[3];
    for (int i = 0; i < 3; i++) {
        c.positions[i] = static_cast<int>(max_of(0L, ceil_div(s.in[i] - remainder[i], s.stride[i])));
        c.in[i] = s.out[i];
        c.step[i] = 1;
        c.out_origin += remainder[i] * c.out_stride[i];
        c.out_stride[i] *= s.stride[i];
        axis_taps(s, i, remainder[i], axis[i]);
    }
    c.depth = s.group_cout();
    c.columns = s.group_cin();
    for (int a = 0; a < axis[0].count; a++)
        for (int b = 0; b < axis[1].count; b++)
            for (int d = 0; d < axis[2].count; d++)
                c.taps[c.tap_count++] = {{axis[0].offset[a], axis[1].offset[b], axis[2].offset[d]},
                                         (axis[0].m[a] * s.kernel[1] + axis[1].m[b]) * s.kernel[2] + axis[2].m[d]};
}

}  // namespace

int phase_count(ConvPass pass, const ConvShape& s) {
    return pass == ConvPass::forward ? 1 : s.stride[0] * s.stride[1] * s.stride[2];
}

void make_phase(ConvPass pass, const ConvShape& shape, int n, int phase, TapConv& c) {
    c.images = n;
    c.groups = shape.groups;
    c.merged = 1;
    c.tap_count = 0;
    if (pass == ConvPass::forward)
        make_forward(shape, c);
    else
        make_backward_data(shape, phase, c);
    c.checked = needs_check(c);
    flatten_if_pointwise(c);
}

ConvShape mirrored(const ConvShape& s) {
    ConvShape m = s;
    m.cin = s.cout;
    m.cout = s.cin;
    for (int i = 0; i < 3; i++) {
        m.in[i] = s.out[i];
        m.out[i] = s.in[i];
        m.pad_lo[i] = (s.kernel[i] - 1) * s.dilation[i] - s.pad_lo[i];
    }
    return m;
}

long piece_count(double macs) { return static_cast<long>(max_of(1.0, min_of(macs / (128 << 10), 64.0))); }

double valid_share(const TapConv& c) {
    double valid = 0;
    for (int t = 0; t < c.tap_count; t++) {
        double pairs = 1;
        for (int i = 0; i < 3; i++) {
            const long o = c.taps[t].offset[i], s = c.step[i];
            const long first = o < 0 ? ceil_div(-o, s) : 0;
            const long end = c.in[i] - o <= 0 ? 0 : min_of<long>(c.positions[i], ceil_div(c.in[i] - o, s));
            pairs *= max_of(0L, end - first);
        }
        valid += pairs;
    }
    return valid / (static_cast<double>(c.position_count()) * max_of(1, c.tap_count));
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
