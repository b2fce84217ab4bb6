// Chooses how a bf16 convolution runs and hands the call to that file.
#include "kernels/dot_bf16_converted.h"
#include "kernels/dot_bf16_taps.h"
#include "kernels/dot_families.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

ConvPlan plan(ConvPass pass, const ConvShape& shape, int batch, bool float_output) {
    ConvPlan p{shape, pass, batch, ConvAlgorithm::converted, 1, 1, 0, 0, Precision::bf16, float_output};
    const bool depthwise = shape.groups > 1 && shape.groups == shape.cin && shape.groups == shape.cout;
    if (pass == ConvPass::backward_weight || depthwise || !bf16_taps_apply(shape))
        plan_bf16_converted(p);
    else
        plan_bf16_taps(p);
    return p;
}

void pack(const ConvPlan& plan, const float* weight, float* packed) {
    if (plan.algorithm == ConvAlgorithm::converted)
        pack_bf16_converted(plan, weight, packed);
    else
        pack_bf16_taps(plan, weight, packed);
}

void run(const ConvPlan& plan, int n, const bf16* from, const float* packed, void* to, float* scratch,
         const Epilogue& epilogue) {
    if (plan.algorithm == ConvAlgorithm::converted)
        run_bf16_converted(plan, n, from, packed, to, scratch, epilogue);
    else
        run_bf16_taps(plan, n, from, packed, to, epilogue);
}

}  // namespace

Bf16ConvKernels bf16_conv_kernels() { return {plan, pack, run, run_bf16_converted_weight}; }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
