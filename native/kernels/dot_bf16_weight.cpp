#include "kernels/dot_bf16_weight.h"

#include "kernels/conv_weight.h"
#include "kernels/dot_bf16_weight_units.h"
#include "runtime/memory.h"
#include "runtime/pool.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr long shared_pairs = (16 << 20) / 4;  // of all copies, where pieces share them

// Pixels and addresses of one tap: x in units of `x_pixel` pairs, dy of the block's width.
void set_pixels(const PairCut& c, const PairUnit& u, int tap, long x_pixel, PairWeightArgs& a) {
    const ConvShape& s = c.s;
    const int kernel_w = c.merged ? 1 : s.kernel[2];
    const int m[3] = {tap / kernel_w / s.kernel[1], tap / kernel_w % s.kernel[1], tap % kernel_w};
    const long x_step[3] = {static_cast<long>(u.size(1)) * u.size(2), u.size(2), 1};
    int out[3] = {s.out[0], s.out[1], s.out[2]};
    out[c.axis] = u.end - u.begin;
    const long dy_step[3] = {static_cast<long>(out[1]) * out[2], out[2], 1};
    a.count[0] = static_cast<int>(u.pairs);
    a.x_stride[0] = u.in_pixels / u.pairs * x_pixel;
    a.dy_stride[0] = u.out_pixels / u.pairs * c.width;
    for (int i = 0; i < 3; i++) {
        const int begin = i == c.axis ? u.begin : 0, end = begin + out[i];
        const Span span = c.merged ? Span{begin, end} : valid_span(s, i, m[i], begin, end);
        const long at = static_cast<long>(span.begin) * s.stride[i] + static_cast<long>(m[i]) * s.dilation[i] -
                        s.pad_lo[i] - u.in[i].begin;
        a.count[i + 1] = span.end - span.begin;
        if (a.count[i + 1] == 0) a.count[0] = 0;  // nothing to add; the addresses are not used
        a.x_stride[i + 1] = x_step[i] * s.stride[i] * x_pixel;
        a.dy_stride[i + 1] = dy_step[i] * c.width;
        a.x += at * x_step[i] * x_pixel;
        a.dy += (span.begin - begin) * a.dy_stride[i + 1];
    }
}

void add_unit(const PairCut& c, const PairUnit& u, const PairPart& part, bool accumulate, float* out) {
    const ConvShape& s = c.s;
    PairWeightArgs a;
    a.out_row = s.cout;
    a.accumulate = accumulate;
    const int tile_begin = c.merged ? 0 : 2 * part.panel_begin;
    const int tile_end = c.merged ? c.row_tiles : min_of(c.row_tiles, 2 * part.panel_end);
    for (int group = part.group_begin; group < part.group_end; group++)
        for (int block = part.block_begin; block < part.block_end; block++)
            for (int tile = tile_begin; tile < tile_end; tile++) {
                const int row = c.row_begin(tile), rows = c.row_begin(tile + 1) - row;
                const PairWeightTile run = find_pair_weight_tile(rows, c.vectors);
                a.columns = min_of(c.width, s.group_cout() - block * c.width);
                for (int tap = 0; tap < c.taps; tap++) {
                    a.x = c.merged
                              ? u.x + row
                              : u.x + u.in_pixels * (group * c.panels() + tile / 2) * panel_rows + tile % 2 * tile_rows;
                    a.dy = u.dy + u.out_pixels * (group * c.blocks + block) * c.width;
                    set_pixels(c, u, tap, c.merged ? s.cin : panel_rows, a);
                    a.out = out + (static_cast<long>(tap) * c.rows + row) * s.cout + group * s.group_cout() +
                            block * c.width;
                    run(a);
                }
            }
}

// Partial sums of any n up to the capacity, at most; 0 where one piece sums all.
long partial_count(const ConvPlan& plan) {
    const long pixels = ceil_div(plan.batch, 2) * plan.shape.out_pixels();
    const long most = min_of(min_of(64L, partial_floats / plan.shape.weight_floats()), pixels / 480);
    return most > 1 ? most : 0;
}

}  // namespace

// With many parts every one would copy the rows and columns of its own: all units are copied first, where they fit.
void plan_bf16_weight(ConvPlan& plan) {
    const ConvShape& s = plan.shape;
    plan.packed_floats = 0;
    plan.tile_pixels = 1;
    plan.tile_vectors = pair_weight_vectors(s.group_cout());
    const PairCut c = make_cut(plan, plan.batch);
    const long shared = c.units * copy_pairs(c);
    const bool share = c.parts() > 1 && shared <= shared_pairs;
    plan.algorithm = share ? ConvAlgorithm::panels : ConvAlgorithm::tiles;
    plan.scratch_floats = static_cast<size_t>(partial_count(plan) * s.weight_floats() + (share ? shared : 0));
}

void run_bf16_weight(const ConvPlan& plan, int n, const bf16* input, const bf16* grad_output, float* grad_weight,
                     float* scratch) {
    const PairCut c = make_cut(plan, n);
    const long weights = plan.shape.weight_floats(), copies = copy_pairs(c);
    Pair* shared = nullptr;
    const long partial = partial_count(plan) * weights, room = static_cast<long>(plan.scratch_floats) - partial;
    if (plan.algorithm == ConvAlgorithm::panels && c.parts() > 1 && c.units * copies <= room) {
        shared = reinterpret_cast<Pair*>(scratch + partial);
        copy_all(c, copies, input, grad_output, shared);
    }
    parallel(c.sums * c.parts(), [&](long piece) {
        const long sum = piece / c.parts();
        const PairPart part = get_part(c, piece % c.parts());
        Pair* own = shared ? nullptr : reinterpret_cast<Pair*>(thread_scratch(static_cast<size_t>(copies)));
        const long begin = c.units * sum / c.sums, end = c.units * (sum + 1) / c.sums;
        for (long unit = begin; unit < end; unit++) {
            const PairUnit u = get_unit(c, unit, shared ? shared + unit * copies : own);
            if (!shared) copy_unit(c, u, part, input, grad_output);
            add_unit(c, u, part, unit > begin, c.sums > 1 ? scratch + sum * weights : grad_weight);
        }
    });
    if (c.sums > 1) add_partial_sums(scratch, weights, c.sums, grad_weight);
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
