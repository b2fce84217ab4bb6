#include "kernels/conv_taps.h"
#include "kernels/tap_fill.h"

#include "runtime/pool.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// Up to this many rows a matrix product reads each weight so few times that packing it first, as a pass of its own,
// would show: the piece that uses a block packs it. With very few rows the time is all memory, and weights packed once
// for many calls read best.
constexpr long few_rows = 16, many_rows = 512;

bool packs_itself(const TapConv& c) {
    const long rows = c.images * c.position_count();
    return c.tap_count == 1 && !c.checked && c.images == 1 && rows > few_rows && rows <= many_rows;
}

}  // namespace

double image_tile_cost(const TapConv& c) {
    if (!c.checked || c.positions[2] > 64) return 2;
    const Tile tile = choose_tile(c.columns, 2, true);
    return valid_share(c) * static_cast<double>(round_up(c.images, tile.pixels)) / c.images;
}

void plan_conv_taps(ConvPlan& plan) {
    TapConv c;
    plan.packed_floats = plan.scratch_floats = 0;
    for (int phase = 0; phase < phase_count(plan.pass, plan.shape); phase++) {
        make_phase(plan.pass, plan.shape, plan.batch, phase, c);
        if (phase == 0) {
            const bool images = image_tile_cost(c) < 1;
            const Tile tile = choose_tile(c.columns, c.images * c.position_count(), images);
            plan.algorithm = images ? ConvAlgorithm::batch_tiles : ConvAlgorithm::tiles;
            plan.tile_pixels = tile.pixels;
            plan.tile_vectors = tile.vectors;
            if (packs_itself(c)) return;
        }
        plan.packed_floats += static_cast<size_t>(c.groups) * panel_layout(c, plan.tile_vectors).group_floats();
    }
}

void pack_conv_taps_ahead(ConvPlan& plan) {
    if (plan.packed_floats > 0) return;
    TapConv c;
    for (int phase = 0; phase < phase_count(plan.pass, plan.shape); phase++) {
        make_phase(plan.pass, plan.shape, plan.batch, phase, c);
        plan.packed_floats += static_cast<size_t>(c.groups) * panel_layout(c, plan.tile_vectors).group_floats();
    }
}

void pack_conv_taps(const ConvPlan& plan, const float* weight, float* packed) {
    TapConv c;
    for (int phase = 0; phase < phase_count(plan.pass, plan.shape); phase++) {
        make_phase(plan.pass, plan.shape, plan.batch, phase, c);
        const PanelLayout layout = panel_layout(c, plan.tile_vectors);
        pack_panels(plan.shape, plan.pass == ConvPass::backward_data, c, layout, weight, packed);
        packed += c.groups * layout.group_floats();
    }
}

void run_conv_taps(const ConvPlan& plan, int n, const float* from, const float* weight, float* to,
                   const Epilogue& epilogue) {
    TapConv c;
    const float* packed = plan.packed_floats ? weight : nullptr;
    for (int phase = 0; phase < phase_count(plan.pass, plan.shape); phase++) {
        make_phase(plan.pass, plan.shape, n, phase, c);
        if (c.tap_count == 0) {
            fill_untouched(c, to, epilogue);
            continue;
        }
        const TapJob job{&c,
                         panel_layout(c, plan.tile_vectors),
                         find_tile(plan.tile_pixels, plan.tile_vectors),
                         plan.algorithm == ConvAlgorithm::batch_tiles,
                         packed,
                         &plan.shape,
                         plan.pass == ConvPass::backward_data,
                         weight,
                         &epilogue};
        if (c.position_count() > 0) run_taps(job, from, to);  // else the input is narrower than the stride
        if (packed) packed += c.groups * job.layout.group_floats();
    }
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
