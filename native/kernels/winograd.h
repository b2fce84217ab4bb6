// 3x3 convolution with stride 1 by Winograd's algorithm: tiles of m x m outputs, m = 2 or 4, from (m + 2)^2 products
// per pair of channels instead of 9 m^2: 2.25 or 4 times fewer. What remains are matrix products of tiles x channels,
// so all channel counts, paddings and sizes work.
//
// Error, against float64, root mean square of normal values relative to that of the result: F(2x2) 2e-7 to 5e-7, not
// more than the direct sum; F(4x4) 4e-7 to 1.2e-6, twice the direct sum's (largest error: up to 3e-6 of the largest
// value). It scales with the largest values around an output, not with the output: small outputs among large ones lose
// relative precision.
#pragma once
#include "kernels/bf16.h"
#include "kernels/conv.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

// Whether the algorithm can do this shape at all.
bool winograd_applies(const ConvShape& shape);
// m, or 0 where the direct kernels are expected to be faster. From the shape, batch and instruction set alone.
int choose_winograd(ConvPass pass, const ConvShape& shape, int batch);

// Whether the transformed weights (backward weight: their gradients) are more than what they are multiplied with, and
// too many for a second-level cache. Then the tiles' side is kept in memory and the weights' side passes by in parts,
// else the reverse.
static FOVEA_INLINE bool winograd_has_few_tiles(ConvPass pass, const ConvShape& shape, long tiles) {
    const long weights = static_cast<long>(shape.cin) * shape.cout;
    return weights >= 8192 && tiles * (shape.cin + shape.cout) <= weights * (pass == ConvPass::backward_weight ? 2 : 1);
}

// Backward weight: whether its sums are few enough to lie in a second-level cache beside transformed tiles.
static FOVEA_INLINE bool winograd_has_few_sums(long floats, long tiles) {
    return floats <= (640 << 10) / 4 && tiles >= 128;
}

// Completes a plan whose shape, pass and batch are set.
void plan_winograd(ConvPlan& plan, int outputs);
void pack_winograd(const ConvPlan& plan, const float* weight, float* packed);
// Activations are stored as float or bf16 (From, To, S); products and sums are float32 in either case.
template <class From, class To>
void run_winograd(const ConvPlan& plan, int n, const From* from, const float* weight, To* to, float* scratch,
                  const Epilogue& epilogue);
template <class S>
void run_winograd_weight(const ConvPlan& plan, int n, const S* input, const S* grad_output, float* grad_weight,
                         float* scratch);

// Backward weight's part of plan_winograd (winograd_weight.cpp).
void plan_winograd_weight(ConvPlan& plan);

static FOVEA_INLINE int winograd_outputs(const ConvPlan& plan) {
    return plan.algorithm == ConvAlgorithm::winograd4 ? 4 : 2;
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
