// Forward and backward data as one thing: a set of taps. At every output position p,
//   out[p, column] = sum over taps t, depth k of in[p * step + offset(t), k] * weight(t)[k, column]
// Forward is one such set. Backward data with stride s is one set for each remainder of the input position modulo s
// (a phase): no zeros are inserted, and each phase meets only the taps that reach it.
#pragma once
#include "kernels/conv.h"
#include "kernels/vec.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

struct Tap {
    int offset[3];  // in input pixels
    int weight;     // the weight tap; the first one when several are merged
};

constexpr int max_taps = 1024;

struct TapConv {
    int images;
    int positions[3];
    // Input: what may be addressed, floats between neighbours along each axis, pixels per position.
    int in[3], step[3];
    long in_stride[3], in_image;
    // Output: floats between neighbouring positions; `out_origin` is position 0.
    long out_stride[3], out_image, out_origin;
    bool checked;   // some position has a tap in the padding
    int groups;     // channel groups: inputs `depth`, outputs `columns` floats apart
    int depth;      // floats read per tap
    int columns;    // outputs per group
    int merged;     // weight taps joined into one (their channels follow each other in memory)
    int tap_count;  // 0: nothing reaches these positions
    Tap taps[max_taps];

    long position_count() const { return static_cast<long>(positions[0]) * positions[1] * positions[2]; }
    double macs() const {
        return static_cast<double>(images) * position_count() * tap_count * depth * columns * groups;
    }
};

// Without the taps that are not there, most of 16 KB.
static FOVEA_INLINE void copy_taps(const TapConv& from, TapConv& to) {
    std::memcpy(&to, &from, offsetof(TapConv, taps) + static_cast<size_t>(from.tap_count) * sizeof(Tap));
}

int phase_count(ConvPass pass, const ConvShape& shape);
// Fills `c` for n images.
void make_phase(ConvPass pass, const ConvShape& shape, int n, int phase, TapConv& c);

// Stride 1: the shape whose forward, with flipped and transposed weights, is this backward data.
ConvShape mirrored(const ConvShape& shape);

// Into how many pieces work is cut: none below 128 K multiply-adds, about a microsecond, as much as handing it over
// costs.
long piece_count(double macs);

// Share of (position, tap) pairs of one image that do not lie in the padding.
double valid_share(const TapConv& c);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
