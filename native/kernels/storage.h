// What numbers are stored as. Sums are float32 everywhere.
#pragma once
#include <cstdint>

namespace fovea {

// bfloat16: the upper half of a float32, rounded to nearest even. Vector loads and stores: bf16.h.
using bf16 = uint16_t;

enum class Precision : int { fp32, bf16 };

}  // namespace fovea
