// Packed weights: what one register tile reads is one run of memory.
#pragma once
#include "kernels/tap_conv.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

// Per group, per block of `width` columns: for each chunk of taps, for each chunk of the depth: [tap][depth][width].
// A step (one chunk of both) of a block is what stays in cache while all pixels pass.
struct PanelLayout {
    int width;          // columns of a block = tile vectors * VL
    int blocks;         // per group
    int step_taps;      // taps of a chunk; the last may have fewer
    long step_depth;    // depth of a chunk; the last may have less
    long block_floats;  // all steps
    long group_floats() const { return blocks * block_floats; }
    long step_floats() const { return step_taps * step_depth * width; }
};

struct Step {
    int tap_begin, tap_end;
    long depth_begin, depth_end;
    long offset;  // in floats from the block's begin
};

// How much packed weight one core keeps hot: of a 1 MB second-level cache 512 KB serve best, the pixels need the rest.
constexpr long hot_panel_floats = (512 << 10) / 4;
constexpr int max_step_taps = 64;

PanelLayout panel_layout(const TapConv& c, int tile_vectors);
int step_count(const TapConv& c, const PanelLayout& layout);
Step get_step(const TapConv& c, const PanelLayout& layout, int index);

// Writes one step of one block: out is [tap][depth][width]. Columns beyond the last are 0.
// transposed: backward data, whose depth are the weights' outputs.
void pack_step(const ConvShape& shape, bool transposed, const TapConv& c, const PanelLayout& layout, const Step& step,
               int group, int block, const float* weight, float* out);
// Writes all steps of all blocks of all groups.
void pack_panels(const ConvShape& shape, bool transposed, const TapConv& c, const PanelLayout& layout,
                 const float* weight, float* packed);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
