// Sums over the rows of a matrix: a bias gradient is the column sum of grad_output.
#pragma once
#include "kernels/bf16.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

// out[c] = sum over rows of in[row, c]; in is rows x columns. scratch: column_sum_scratch(rows, columns) floats.
size_t column_sum_scratch(long rows, int columns);
void column_sum(const float* in, long rows, int columns, float* out, float* scratch);
void column_sum(const bf16* in, long rows, int columns, float* out, float* scratch);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
