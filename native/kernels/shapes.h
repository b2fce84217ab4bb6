// Resolved geometry: what kernels receive. The Python side computes output sizes and padding once; a kernel never does.
#pragma once

namespace fovea {

// A convolution over three spatial axes (D, H, W); 1-D and 2-D have leading axes of 1 (kernel 1, stride 1, dilation 1,
// no padding). Activations are N,D,H,W,C; weights are kernel D,H,W, cin / groups, cout. Padding behind the last element
// is what `in` and `out` imply; elements that no window reaches are allowed.
struct ConvShape {
    int groups, cin, cout;  // cin and cout count all groups
    int in[3], out[3], kernel[3], stride[3], dilation[3], pad_lo[3];

    long in_pixels() const { return static_cast<long>(in[0]) * in[1] * in[2]; }
    long out_pixels() const { return static_cast<long>(out[0]) * out[1] * out[2]; }
    int taps() const { return kernel[0] * kernel[1] * kernel[2]; }
    int group_cin() const { return cin / groups; }
    int group_cout() const { return cout / groups; }
    long weight_floats() const { return static_cast<long>(taps()) * group_cin() * cout; }
    double macs(int n) const { return static_cast<double>(n) * out_pixels() * weight_floats(); }
};

}  // namespace fovea
