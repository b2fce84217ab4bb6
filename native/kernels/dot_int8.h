// The kernels of int8 inference. Activations are uint8 with one scale and zero point for a tensor, x = (q - zero)
// scale; a pixel's channels are padded to a multiple of four, whose contents are free. Weights are int8 with a scale
// for every output channel. Sums are int32; they become bytes again by one float32 factor for each channel, rounded
// half to even. Every number is the same for every instruction set.
#pragma once
#include "kernels/op.h"
#include "kernels/vec.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

void int8_pack(const OpCall& call);
void int8_conv(const OpCall& call);
void int8_convpool(const OpCall& call);
void int8_winograd(const OpCall& call);
void int8_inverted(const OpCall& call);
void int8_depthwise_pack(const OpCall& call);
void int8_depthwise(const OpCall& call);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
