// What the kernels behind op.h share: operands by type, and loops cut into pieces.
#pragma once
#include "kernels/bf16.h"
#include "kernels/op.h"
#include "kernels/vec.h"
#include "runtime/pool.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

// Where S is a type of kernels, activations and their gradients are stored as S: float or bf16.

static FOVEA_INLINE float value(float x) { return x; }
static FOVEA_INLINE float value(bf16 x) { return to_float(x); }
static FOVEA_INLINE void put(float* to, float x) { *to = x; }
static FOVEA_INLINE void put(bf16* to, float x) { *to = to_bf16(x); }

// Floats of `count` stored values, whole lines.
template <class Stored>
long line_floats(long count) {
    return round_up(ceil_div(count * static_cast<long>(sizeof(Stored)), sizeof(float)), 16);
}

// Floats of one piece of element-wise work: small tensors stay on the calling thread.
constexpr long piece_floats = 16384;

template <class S = float>
static FOVEA_INLINE S* out(const OpCall& call, int i) {
    return static_cast<S*>(call.operand[i]);
}
template <class S = float>
static FOVEA_INLINE const S* in(const OpCall& call, int i) {
    return static_cast<const S*>(call.operand[i]);
}

// body(begin, end) over [0, count) in pieces of `grain`.
template <class Body>
static FOVEA_INLINE void over_range(long count, long grain, const Body& body) {
    parallel(ceil_div(count, grain), [&](long piece) { body(piece * grain, min_of((piece + 1) * grain, count)); });
}

// body(begin, end) over rows of `width` floats.
template <class Body>
static FOVEA_INLINE void over_rows(long rows, long width, const Body& body) {
    over_range(rows, max_of(1L, piece_floats / max_of(1L, width)), body);
}

// Chunks for sums over rows: at most 64 whatever the number of threads; their results are combined in order, in double.
static FOVEA_INLINE long sum_chunks(long rows, long width) {
    return max_of(1L, min_of(rows * width / piece_floats, 64L));
}

template <class Body>
static FOVEA_INLINE void over_chunks(long rows, long chunks, const Body& body) {
    parallel(chunks, [&](long chunk) { body(chunk, rows * chunk / chunks, rows * (chunk + 1) / chunks); });
}

// total[c] = sum over chunks of part[chunk * stride + c].
static FOVEA_INLINE double sum_parts(const float* part, long chunks, long stride) {
    double sum = 0;
    for (long chunk = 0; chunk < chunks; chunk++) sum += static_cast<double>(part[chunk * stride]);
    return sum;
}

// OpKernel::stored from the numbers of the operands.
template <class... Numbers>
constexpr uint32_t operands(Numbers... i) {
    return ((1u << i) | ...);
}

// A list of kernels that is constant data.
template <int count>
static FOVEA_INLINE OpList op_list(const OpKernel (&kernels)[count]) {
    return {kernels, count};
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
