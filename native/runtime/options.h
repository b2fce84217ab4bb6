// Choices of the environment, read once when they are first needed.
#pragma once

namespace fovea {

// FOVEA_WINOGRAD: "auto" (the default: a rule decides for each layer), "off" (direct kernels alone), "2" or "4" (F(2x2)
// or F(4x4) wherever the algorithm applies). Throws std::runtime_error for anything else.
enum class WinogradOption { automatic, off, two, four };
WinogradOption winograd_option();

}  // namespace fovea
