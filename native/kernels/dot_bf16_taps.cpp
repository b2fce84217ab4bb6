#include "kernels/dot_bf16_taps.h"

#include "kernels/dot_bf16_run.h"
#include "kernels/tap_fill.h"
#include "runtime/memory.h"
#include "runtime/pool.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// Tiles of images, which skip the padding, where that saves work.
bool image_tiles_pay(const TapConv& c) {
    if (!c.checked || c.positions[2] > 64) return false;
    return valid_share(c) * static_cast<double>(round_up(c.images, max_pair_tile_pixels)) < c.images;
}

}  // namespace

bool bf16_taps_apply(const ConvShape& s) {
    return s.taps() <= max_taps && s.cin <= static_cast<long>(zero_floats) && s.cout <= static_cast<long>(zero_floats);
}

void plan_bf16_taps(ConvPlan& plan) {
    TapConv c;
    plan.packed_floats = plan.scratch_floats = 0;
    for (int phase = 0; phase < phase_count(plan.pass, plan.shape); phase++) {
        make_phase(plan.pass, plan.shape, plan.batch, phase, c);
        if (phase == 0) {
            const PairTile tile = choose_pair_tile(c.columns, c.images * c.position_count(),
                                                   static_cast<long>(c.depth) * max_of(1, c.tap_count));
            plan.algorithm = image_tiles_pay(c) ? ConvAlgorithm::batch_tiles : ConvAlgorithm::tiles;
            plan.tile_pixels = tile.pixels;
            plan.tile_vectors = tile.vectors;
        }
        plan.packed_floats += static_cast<size_t>(pair_layout(c, plan.tile_vectors).pairs(c));
    }
}

void pack_bf16_taps(const ConvPlan& plan, const float* weight, float* packed) {
    TapConv c;
    Pair* out = reinterpret_cast<Pair*>(packed);
    for (int phase = 0; phase < phase_count(plan.pass, plan.shape); phase++) {
        make_phase(plan.pass, plan.shape, plan.batch, phase, c);
        const PairLayout layout = pair_layout(c, plan.tile_vectors);
        pack_pairs(plan.shape, plan.pass == ConvPass::backward_data, c, layout, weight, out);
        out += layout.pairs(c);
    }
}

void run_bf16_taps(const ConvPlan& plan, int n, const bf16* from, const float* packed, void* to,
                   const Epilogue& epilogue) {
    TapConv c;
    const Pair* weight = reinterpret_cast<const Pair*>(packed);
    for (int phase = 0; phase < phase_count(plan.pass, plan.shape); phase++) {
        make_phase(plan.pass, plan.shape, n, phase, c);
        const PairLayout layout = pair_layout(c, plan.tile_vectors);
        if (c.tap_count == 0) {
            if (plan.float_output)
                fill_untouched(c, static_cast<float*>(to), epilogue);
            else
                fill_untouched(c, static_cast<bf16*>(to), epilogue);
            continue;
        }
        if (c.position_count() > 0)  // else the input is narrower than the stride
            run_pairs({&c, layout, find_pair_tile(plan.tile_pixels, plan.tile_vectors),
                       plan.algorithm == ConvAlgorithm::batch_tiles, weight, plan.float_output, &epilogue},
                      from, to);
        weight += layout.pairs(c);
    }
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
