// Chooses how a convolution runs and hands the call to that file.
#include "kernels/conv.h"

#include "kernels/column_sum.h"
#include "kernels/conv_depthwise.h"
#include "kernels/conv_merged.h"
#include "kernels/conv_naive.h"
#include "kernels/conv_taps.h"
#include "kernels/conv_weight.h"
#include "kernels/families.h"
#include "kernels/planar.h"
#include "kernels/winograd.h"
#include "runtime/memory.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

ConvPlan plan_naive(ConvPass pass, const ConvShape& shape, int batch) {
    size_t scratch = 0;
    if (pass == ConvPass::backward_weight) scratch = column_sum_scratch(batch * shape.out_pixels(), shape.cout);
    return {shape, pass, batch, ConvAlgorithm::naive, 1, 1, 0, scratch};
}

// What the tile kernels are made for; everything else is rare enough for the definition.
bool tiles_apply(const ConvShape& s) {
    return s.taps() <= max_taps && s.cin <= static_cast<long>(zero_floats) && s.cout <= static_cast<long>(zero_floats);
}

bool is_winograd(const ConvPlan& plan) {
    return plan.algorithm == ConvAlgorithm::winograd2 || plan.algorithm == ConvAlgorithm::winograd4;
}

ConvPlan plan_winograd_or_direct(ConvPass pass, const ConvShape& shape, int batch, int outputs) {
    ConvPlan p = plan_naive(pass, shape, batch);
    if (!tiles_apply(shape)) return p;
    if (outputs > 0 && winograd_applies(shape)) {
        const size_t bias_scratch = p.scratch_floats;
        plan_winograd(p, outputs);
        p.scratch_floats = max_of(p.scratch_floats, bias_scratch);
        return p;
    }
    const bool depthwise = shape.groups > 1 && shape.groups == shape.cin && shape.groups == shape.cout;
    if (pass == ConvPass::backward_weight) {
        const size_t bias_scratch = p.scratch_floats;
        if (depthwise)
            plan_conv_depthwise(p);
        else
            plan_conv_weight(p);
        p.scratch_floats = max_of(p.scratch_floats, bias_scratch);
    } else if (depthwise) {
        plan_conv_depthwise(p);
    } else if (planar_pays(pass, shape))
        plan_conv_planar(p);
    else if (merging_applies(pass, shape, batch))
        plan_conv_merged(p);
    else
        plan_conv_taps(p);
    return p;
}

ConvPlan plan(ConvPass pass, const ConvShape& shape, int batch) {
    return plan_winograd_or_direct(pass, shape, batch,
                                   winograd_applies(shape) ? choose_winograd(pass, shape, batch) : 0);
}

void pack_ahead(ConvPlan& plan) {
    const bool taps = plan.algorithm == ConvAlgorithm::tiles || plan.algorithm == ConvAlgorithm::batch_tiles;
    if (taps && plan.pass != ConvPass::backward_weight) pack_conv_taps_ahead(plan);
}

void pack(const ConvPlan& plan, const float* weight, float* packed) {
    if (plan.packed_floats == 0) return;
    if (is_winograd(plan))
        pack_winograd(plan, weight, packed);
    else if (plan.algorithm == ConvAlgorithm::merged)
        pack_conv_merged(plan, weight, packed);
    else
        pack_conv_taps(plan, weight, packed);
}

void run(const ConvPlan& plan, int n, const float* from, const float* weight, float* to, float* scratch,
         const Epilogue& epilogue) {
    switch (plan.algorithm) {
        case ConvAlgorithm::merged:
            return run_conv_merged(plan, n, from, weight, to, epilogue);
        case ConvAlgorithm::depthwise:
            return run_conv_depthwise(plan, n, from, weight, to, epilogue);
        case ConvAlgorithm::planar:
            return run_conv_planar(plan, n, from, weight, to, epilogue);
        case ConvAlgorithm::tiles:
        case ConvAlgorithm::batch_tiles:
            return run_conv_taps(plan, n, from, weight, to, epilogue);
        case ConvAlgorithm::winograd2:
        case ConvAlgorithm::winograd4:
            return run_winograd(plan, n, from, weight, to, scratch, epilogue);
        default:
            return conv_naive(plan, n, from, weight, to, epilogue);
    }
}

void run_backward_weight(const ConvPlan& plan, int n, const float* input, const float* grad_output, float* grad_weight,
                         float* grad_bias, float* scratch) {
    switch (plan.algorithm) {
        case ConvAlgorithm::naive:
            conv_naive_backward_weight(plan, n, input, grad_output, grad_weight);
            break;
        case ConvAlgorithm::depthwise:
            run_depthwise_weight(plan, n, input, grad_output, grad_weight, scratch);
            break;
        case ConvAlgorithm::winograd2:
        case ConvAlgorithm::winograd4:
            run_winograd_weight(plan, n, input, grad_output, grad_weight, scratch);
            break;
        default:
            run_conv_weight(plan, n, input, grad_output, grad_weight, scratch);
    }
    if (grad_bias) column_sum(grad_output, n * plan.shape.out_pixels(), plan.shape.cout, grad_bias, scratch);
}

}  // namespace

ConvKernels conv_kernels() {
    return {plan, plan_naive, plan_winograd_or_direct, pack_ahead, pack, run, run_backward_weight};
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
