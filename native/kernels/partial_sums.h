// What pieces of work summed apart, added in order.
#pragma once
#include "kernels/vec.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

// out[i] = sum over k < sums of partial[k * count + i], in order.
void add_partial_sums(const float* partial, long count, long sums, float* out);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
