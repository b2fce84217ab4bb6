// Chooses how a convolution runs and hands the call to that file.
#include "kernels/conv.h"

#include "kernels/column_sum.h"
#include "kernels/conv_naive.h"
#include "kernels/families.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

ConvPlan plan_naive(ConvPass pass, const ConvShape& shape, int batch) {
    size_t scratch = 0;
    if (pass == ConvPass::backward_weight) scratch = column_sum_scratch(batch * shape.out_pixels(), shape.cout);
    return {shape, pass, batch, ConvAlgorithm::naive, 1, 1, 0, scratch};
}

ConvPlan plan(ConvPass pass, const ConvShape& shape, int batch) { return plan_naive(pass, shape, batch); }

void pack(const ConvPlan&, const float*, float*) {}

void run(const ConvPlan& plan, int n, const float* from, const float* weight, float* to, float*,
         const Epilogue& epilogue) {
    conv_naive(plan, n, from, weight, to, epilogue);
}

void run_backward_weight(const ConvPlan& plan, int n, const float* input, const float* grad_output, float* grad_weight,
                         float* grad_bias, float* scratch) {
    conv_naive_backward_weight(plan, n, input, grad_output, grad_weight);
    if (grad_bias) column_sum(grad_output, n * plan.shape.out_pixels(), plan.shape.cout, grad_bias, scratch);
}

}  // namespace

ConvKernels conv_kernels() { return {plan, plan_naive, pack, run, run_backward_weight}; }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
