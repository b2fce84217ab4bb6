// Convolution, clamp and max-pooling over 2x2 windows in one pass, for few channels: the map between convolution and
// pooling, four times as large as what stays, is never written. With x the input, w the weight, b the bias:
//   z[p, o] = clamp(b[o] + sum over taps m, channels c of x[p + m - pad_lo, c] w[m, c, o])
//   y[q, o] = max of z[2 q + k, o] over k in {0, 1} x {0, 1}; winner[q, o] = the first k that has it (NaN wins)
// Backward needs no map either, as only winners have a gradient:
//   dx[2 q + winner[q, o] + m - pad_lo, c] += dy[q, o] w[m, c, o]
//   dw[m, c, o] = sum over q of dy[q, o] x[2 q + winner[q, o] + m - pad_lo, c];  db[o] = sum over q of dy[q, o]
#pragma once
#include "kernels/conv.h"
#include "kernels/op_tools.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

// The ints of both passes: the convolution's shape, 1 if it is clamped, then height and width of the pooled map.
constexpr int convpool_ints = 24, clamp_int = 21, pooled_int = 22;

// The shape, without a last row and column of outputs that belong to no window.
static FOVEA_INLINE ConvShape pooled_shape(const OpCall& call) {
    ConvShape s;
    const long* from = call.ints;
    int* const fields[] = {&s.groups, &s.cin, &s.cout};
    for (int* field : fields) *field = static_cast<int>(*from++);
    int* const axes[] = {s.in, s.out, s.kernel, s.stride, s.dilation, s.pad_lo};
    for (int* field : axes)
        for (int i = 0; i < 3; i++) field[i] = static_cast<int>(*from++);
    for (int i = 0; i < 2; i++) s.out[1 + i] = static_cast<int>(2 * call.ints[pooled_int + i]);
    return s;
}

// dx, dy, winners, gate (as below), weight.
void convpool_backward_data(const OpCall& call);
size_t convpool_backward_data_scratch(const OpCall& call);
// At most so many vectors (of VL floats) may hold a kernel's rows, each row whole vectors.
constexpr int max_run_vectors = 128;

// dweight, dbias (may be null), x, dy, winners, gate (y where a ReLU came before, else null).
void convpool_backward_weight(const OpCall& call);
size_t convpool_backward_scratch(const OpCall& call);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
