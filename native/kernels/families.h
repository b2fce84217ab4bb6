// The kernel families of one instruction set, as table.cpp collects them: one function per family.
#pragma once
#include "kernels/conv.h"
#include "kernels/op.h"
#include "kernels/peak.h"
#include "kernels/random.h"
#include "kernels/vec.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

ConvKernels conv_kernels();
RandomKernels random_kernels();
PeakKernels peak_kernels();

OpList elementwise_ops();
OpList norm_ops();
OpList pool_ops();
OpList conv_pool_ops();
OpList loss_ops();
OpList reduce_ops();
OpList shape_ops();
OpList binary_ops();
OpList rownorm_ops();
OpList softmax_ops();
OpList lossvalue_ops();
OpList lossoverlap_ops();
OpList inverted_ops();
OpList normed_depthwise_ops();
OpList normed_pointwise_ops();
OpList between_norms_ops();
OpList optimizer_ops();

}  // namespace fovea::FOVEA_ISA_NAMESPACE
