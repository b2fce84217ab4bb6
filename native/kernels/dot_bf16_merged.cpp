#include "kernels/dot_bf16_merged.h"

#include "kernels/dot_bf16_run.h"
#include "kernels/merged_rows.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr int few_channels = 6;  // from 8 on the tiles of single taps lose little

}  // namespace

bool bf16_merging_applies(ConvPass pass, const ConvShape& s) {
    if (s.groups != 1 || s.kernel[2] == 1 || s.dilation[2] != 1) return false;
    if (pass == ConvPass::backward_data && s.stride[0] * s.stride[1] * s.stride[2] != 1) return false;
    return (pass == ConvPass::forward ? s.cin : s.cout) <= few_channels;
}

void plan_bf16_merged(ConvPlan& plan) {
    TapConv c;
    make_merged_rows(plan.pass, merged_forward(plan), c);
    const PairTile tile = choose_pair_tile(c.columns, 2, static_cast<long>(c.depth) * c.tap_count);
    plan.algorithm = ConvAlgorithm::merged;
    plan.tile_pixels = tile.pixels;
    plan.tile_vectors = tile.vectors;
    plan.packed_floats = static_cast<size_t>(pair_layout(c, tile.vectors).pairs(c));
    plan.scratch_floats = 0;
}

void pack_bf16_merged(const ConvPlan& plan, const float* weight, float* packed) {
    TapConv c;
    make_merged_rows(plan.pass, merged_forward(plan), c);
    pack_pairs(plan.shape, plan.pass == ConvPass::backward_data, c, pair_layout(c, plan.tile_vectors), weight,
               reinterpret_cast<Pair*>(packed));
}

void run_bf16_merged(const ConvPlan& plan, int n, const bf16* from, const float* packed, void* to,
                     const Epilogue& epilogue) {
    const ConvShape s = merged_forward(plan);
    TapConv whole;
    make_merged_rows(plan.pass, s, whole);
    const PairJob job{
        &whole,   pair_layout(whole, plan.tile_vectors), find_pair_tile(plan.tile_pixels, plan.tile_vectors),
        false,    reinterpret_cast<const Pair*>(packed), plan.float_output,
        &epilogue};
    if (is_unpadded(s)) {
        whole.images = n;
        set_merged_input(whole, s.in, s.cin);
        run_pairs(job, from, to);
        return;
    }
    const long element = plan.float_output ? sizeof(float) : sizeof(bf16);
    over_bands(s, n, whole, from, [&](const TapConv& c, const bf16* copy, long out) {
        PairJob own = job;
        own.conv = &c;
        run_pairs_here(own, copy, static_cast<char*>(to) + out * element);
    });
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
