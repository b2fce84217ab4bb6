// What one instruction set offers: one struct of function pointers per kernel family. A family is declared in its own
// header (conv.h, gemm.h, ...), defined by its .cpp files once per instruction set, and joined here and in table.cpp.
#pragma once
#include "kernels/conv.h"
#include "kernels/op.h"
#include "kernels/peak.h"
#include "kernels/random.h"

namespace fovea {

struct KernelTable {
    const char* isa;    // "v2", "v3", "v4" or "baseline"
    int vector_floats;  // VL
    ConvKernels conv;
    RandomKernels random;
    PeakKernels peak;
    OpKernels ops;
};

// Chosen on the first call (runtime/cpu.cpp): the best that the CPU has, or the one that FOVEA_ISA names.
const KernelTable& kernels();

}  // namespace fovea
