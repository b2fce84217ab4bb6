// Backward weight, two ways. With few weights and many pixels, groups of images are summed apart and the sums added in
// order; with many weights, output channels are split and every sum runs over all pixels.
#pragma once
#include "kernels/conv.h"
#include "kernels/partial_sums.h"
#include "kernels/vec.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

void plan_conv_weight(ConvPlan& plan);
void run_conv_weight(const ConvPlan& plan, int n, const float* input, const float* grad_output, float* grad_weight,
                     float* scratch);

// The second way (conv_weight_panels.cpp): both operands packed, as channel counts of powers of two walked by pixel
// collide in the first-level cache.
size_t weight_panels_scratch(const ConvShape& shape, int n);
void run_weight_panels(const ConvPlan& plan, int n, const float* input, const float* grad_output, float* grad_weight,
                       float* scratch);

// Output positions along one axis whose tap m lies in the input, within [begin, end).
struct Span {
    int begin, end;
};
static FOVEA_INLINE Span valid_span(const ConvShape& s, int axis, int m, int begin, int end) {
    const long offset = static_cast<long>(m) * s.dilation[axis] - s.pad_lo[axis], stride = s.stride[axis];
    const long first = offset >= 0 ? 0 : ceil_div(-offset, stride);
    const long last = s.in[axis] - offset <= 0 ? 0 : ceil_div(s.in[axis] - offset, stride);
    const int b = static_cast<int>(max_of<long>(begin, first)), e = static_cast<int>(min_of<long>(end, last));
    return {b, max_of(b, e)};
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
