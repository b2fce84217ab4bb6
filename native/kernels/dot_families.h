// The families of dot-product kernels of one instruction set, as dot_table.cpp collects them.
#pragma once
#include "kernels/dot.h"
#include "kernels/vec.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

Bf16ConvKernels bf16_conv_kernels();
OpList int8_ops();
OpList dot_inverted_ops();
OpList dot_between_norms_ops();

}  // namespace fovea::FOVEA_ISA_NAMESPACE
