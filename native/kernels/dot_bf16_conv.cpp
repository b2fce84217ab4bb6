// Chooses how a bf16 convolution runs and hands the call to that file.
#include "kernels/dot_bf16_converted.h"
#include "kernels/dot_families.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

ConvPlan plan(ConvPass pass, const ConvShape& shape, int batch, bool float_output) {
    ConvPlan p{shape, pass, batch, ConvAlgorithm::converted, 1, 1, 0, 0, Precision::bf16, float_output};
    plan_bf16_converted(p);
    return p;
}

}  // namespace

Bf16ConvKernels bf16_conv_kernels() {
    return {plan, pack_bf16_converted, run_bf16_converted, run_bf16_converted_weight};
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
