// What the CPU can do. kernels() (kernels/table.h) and dot_kernels() (kernels/dot.h) are defined beside it.
#pragma once
#include <string>
#include <vector>

#include "kernels/dot.h"
#include "kernels/table.h"

namespace fovea {

// Names of the instruction-set extensions that matter here and that this CPU has.
std::vector<std::string> cpu_features();

}  // namespace fovea
