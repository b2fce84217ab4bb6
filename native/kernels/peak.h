// What the machine can do at most: loops that do nothing else, run on all threads. Callers time them.
#pragma once

namespace fovea {

struct PeakKernels {
    // Arithmetic in registers, `rounds` times; each returns the operations done (two for each multiply-accumulate) or,
    // simple_steps, the instructions of the integer units. 0: this CPU lacks the instruction.
    double (*fma)(long rounds);
    double (*dot_bf16)(long rounds);
    double (*dot_int8)(long rounds);
    double (*simple_steps)(long rounds);
    // Passes over memory; each returns the bytes read and written.
    double (*read)(const float* from, long floats);
    double (*copy)(const float* from, float* to, long floats);
};

}  // namespace fovea
