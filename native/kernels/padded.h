// Padded copies of a band of an image: positions begin .. end along one axis, everything along the others.
#pragma once
#include "kernels/shapes.h"
#include "kernels/storage.h"
#include "kernels/vec.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

// Images are cut into bands along the first axis that has any extent.
struct Bands {
    int axis;
    int count;      // per image
    int positions;  // output positions of a band along the axis; the last may have fewer
    int size[3];    // pixels of the padded copy of a whole band
    long floats() const { return floats_; }
    long floats_;
};

// Bands of `shape`'s output whose padded input of `channels` holds at most `max_floats`, at least `min_count` where
// possible.
Bands make_bands(const ConvShape& shape, int channels, long max_floats, long min_count);

// Copies the input that output positions begin .. end along bands.axis meet; out is [size of the copy][channels], where
// the axis has only the pixels that are needed. fill: the byte of which padding is made.
template <class S>
void copy_padded(const ConvShape& shape, const Bands& bands, int begin, int end, int channels, const S* image, S* out,
                 int fill = 0);

// Rows of small images are too short for calls of memcpy and memset to pay.
static FOVEA_INLINE void copy_floats(float* to, const float* from, long count) {
    for (; count >= VL; count -= VL, to += VL, from += VL) store(to, load(from));
    if (count > 0) store(to, load(from, first_lanes(count)), first_lanes(count));
}
static FOVEA_INLINE void zero_floats_at(float* to, long count) {
    for (; count >= VL; count -= VL, to += VL) store(to, Vec{});
    if (count > 0) store(to, Vec{}, first_lanes(count));
}

static FOVEA_INLINE int window_span(const ConvShape& s, int axis, int positions) {
    return (positions - 1) * s.stride[axis] + (s.kernel[axis] - 1) * s.dilation[axis] + 1;
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
