#include "kernels/conv_merged.h"

#include "kernels/conv_taps.h"
#include "kernels/merged_rows.h"
#include "kernels/tap_run.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr int few_channels = 16;

}  // namespace

bool merging_applies(ConvPass pass, const ConvShape& s, int batch) {
    if (s.groups != 1 || s.kernel[2] == 1 || s.dilation[2] != 1) return false;
    if ((pass == ConvPass::forward ? s.cin : s.cout) > few_channels) return false;
    if (pass == ConvPass::backward_data && s.stride[0] * s.stride[1] * s.stride[2] != 1) return false;
    TapConv c;  // where much is padding, skipping it saves more
    make_phase(pass, s, batch, 0, c);
    return image_tile_cost(c) > 0.8;
}

void plan_conv_merged(ConvPlan& plan) {
    TapConv c;
    make_merged_rows(plan.pass, merged_forward(plan), c);
    const Tile tile = choose_tile(c.columns, 2, false);
    plan.algorithm = ConvAlgorithm::merged;
    plan.tile_pixels = tile.pixels;
    plan.tile_vectors = tile.vectors;
    plan.packed_floats = panel_layout(c, tile.vectors).group_floats();
    plan.scratch_floats = 0;
}

void pack_conv_merged(const ConvPlan& plan, const float* weight, float* packed) {
    TapConv c;
    make_merged_rows(plan.pass, merged_forward(plan), c);
    pack_panels(plan.shape, plan.pass == ConvPass::backward_data, c, panel_layout(c, plan.tile_vectors), weight,
                packed);
}

void run_conv_merged(const ConvPlan& plan, int n, const float* from, const float* weight, float* to,
                     const Epilogue& epilogue) {
    const ConvShape s = merged_forward(plan);
    TapConv whole;
    make_merged_rows(plan.pass, s, whole);
    TapJob job{&whole,
               panel_layout(whole, plan.tile_vectors),
               find_tile(plan.tile_pixels, plan.tile_vectors),
               false,
               weight,
               nullptr,
               false,
               nullptr,
               &epilogue};
    if (is_unpadded(s)) {
        whole.images = n;
        set_merged_input(whole, s.in, s.cin);
        run_taps(job, from, to);
        return;
    }
    over_bands(s, n, whole, from, [&](const TapConv& c, const float* copy, long out) {
        TapJob own = job;
        own.conv = &c;
        run_taps_here(own, copy, to + out);
    });
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
