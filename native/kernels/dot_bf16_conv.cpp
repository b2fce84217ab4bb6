// Chooses how a bf16 convolution runs and hands the call to that file.
#include "kernels/column_sum.h"
#include "kernels/conv_depthwise.h"
#include "kernels/dot_bf16_converted.h"
#include "kernels/dot_bf16_merged.h"
#include "kernels/dot_bf16_taps.h"
#include "kernels/dot_bf16_weight.h"
#include "kernels/dot_families.h"
#include "kernels/winograd.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// Winograd's products stay float32: transformed values rounded to bf16 would cost most of their digits. It still wins
// over direct bf16, whose products are twice as fast, where it makes a quarter of them: measured in all layers where
// float32 takes it.
int choose_outputs(ConvPass pass, const ConvShape& shape, int batch) {
    return winograd_applies(shape) && choose_winograd(pass, shape, batch) == 4 ? 4 : 0;
}

bool is_winograd(const ConvPlan& plan) {
    return plan.algorithm == ConvAlgorithm::winograd2 || plan.algorithm == ConvAlgorithm::winograd4;
}

ConvPlan plan_winograd_or_direct(ConvPass pass, const ConvShape& shape, int batch, bool float_output, int outputs) {
    ConvPlan p{shape, pass, batch, ConvAlgorithm::converted, 1,
               1,     0,    0,     Precision::bf16,          float_output && pass != ConvPass::backward_weight};
    const bool depthwise = shape.groups > 1 && shape.groups == shape.cin && shape.groups == shape.cout;
    if (!bf16_taps_apply(shape) || (depthwise && p.float_output))
        plan_bf16_converted(p);
    else if (depthwise)
        plan_conv_depthwise(p);
    else if (outputs > 0 && winograd_applies(shape))
        plan_winograd(p, outputs);
    else if (pass == ConvPass::backward_weight)
        plan_bf16_weight(p);
    else if (bf16_merging_applies(pass, shape))
        plan_bf16_merged(p);
    else
        plan_bf16_taps(p);
    if (pass == ConvPass::backward_weight)
        p.scratch_floats = max_of(p.scratch_floats, column_sum_scratch(batch * shape.out_pixels(), shape.cout));
    return p;
}

ConvPlan plan(ConvPass pass, const ConvShape& shape, int batch, bool float_output) {
    return plan_winograd_or_direct(pass, shape, batch, float_output, choose_outputs(pass, shape, batch));
}

void pack(const ConvPlan& plan, const float* weight, float* packed) {
    if (plan.packed_floats == 0) return;
    if (plan.algorithm == ConvAlgorithm::converted)
        pack_bf16_converted(plan, weight, packed);
    else if (is_winograd(plan))
        pack_winograd(plan, weight, packed);
    else if (plan.algorithm == ConvAlgorithm::merged)
        pack_bf16_merged(plan, weight, packed);
    else
        pack_bf16_taps(plan, weight, packed);
}

void run(const ConvPlan& plan, int n, const bf16* from, const float* weight, void* to, float* scratch,
         const Epilogue& epilogue) {
    if (plan.algorithm == ConvAlgorithm::converted)
        run_bf16_converted(plan, n, from, weight, to, scratch, epilogue);
    else if (plan.algorithm == ConvAlgorithm::depthwise)
        run_conv_depthwise(plan, n, from, weight, static_cast<bf16*>(to), epilogue);
    else if (plan.algorithm == ConvAlgorithm::merged)
        run_bf16_merged(plan, n, from, weight, to, epilogue);
    else if (!is_winograd(plan))
        run_bf16_taps(plan, n, from, weight, to, epilogue);
    else if (plan.float_output)
        run_winograd(plan, n, from, weight, static_cast<float*>(to), scratch, epilogue);
    else
        run_winograd(plan, n, from, weight, static_cast<bf16*>(to), scratch, epilogue);
}

void run_backward_weight(const ConvPlan& plan, int n, const bf16* input, const bf16* grad_output, float* grad_weight,
                         float* grad_bias, float* scratch) {
    if (is_winograd(plan))
        run_winograd_weight(plan, n, input, grad_output, grad_weight, scratch);
    else if (plan.algorithm == ConvAlgorithm::depthwise)
        run_depthwise_weight(plan, n, input, grad_output, grad_weight, scratch);
    else if (plan.algorithm == ConvAlgorithm::converted)
        run_bf16_converted_weight(plan, n, input, grad_output, grad_weight, scratch);
    else
        run_bf16_weight(plan, n, input, grad_output, grad_weight, scratch);
    if (grad_bias) column_sum(grad_output, n * plan.shape.out_pixels(), plan.shape.cout, grad_bias, scratch);
}

}  // namespace

Bf16ConvKernels bf16_conv_kernels() { return {plan, plan_winograd_or_direct, pack, run, run_backward_weight}; }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
