// Backward of a pointwise convolution through the batch norm behind it: dz = the norm's gradient, made from g (the
// gradient behind its clamp) for a run of pixels that stays in the first caches, is never stored; from it come
// dx = dz w^T and dw = x^T dz. Written once for both types of storage: Math is PointwiseMath or what has its parts.
#pragma once
#include "kernels/conv.h"
#include "kernels/norm_rows.h"
#include "kernels/partial_sums.h"
#include "kernels/weight_tile.h"
#include "runtime/memory.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace normed {

constexpr long run_floats = (64 << 10) / 4;
constexpr long whole_tiles = 24;  // pixels: a multiple of what most register tiles take

// Partial sums of dw: one per 480 pixels repays its writing and reading.
static inline long piece_count_of(long rows) { return max_of(1L, min_of(rows / 480, 64L)); }

constexpr Epilogue plain{};

template <class Math>
size_t scratch(const OpCall& call) {
    const int cin = static_cast<int>(call.ints[1]), cout = static_cast<int>(call.ints[2]);
    const typename Math::Convolution back(cout, cin, nullptr, plain);
    return static_cast<size_t>(back.packed_floats() + piece_count_of(call.n * call.ints[0]) * cin * cout);
}

// dx, dw (each may be null), g, z, saved, means, x, w; ints: positions of one sample, C_in, C_out. z is the
// convolution's output, of which batchnorm_statistics left `saved`; `means` as batchnorm_gradient takes them.
template <class Math>
void backward(const OpCall& call) {
    using S = typename Math::Stored;
    const int cin = static_cast<int>(call.ints[1]), cout = static_cast<int>(call.ints[2]);
    const long rows = call.n * call.ints[0], pieces = piece_count_of(rows), weights = static_cast<long>(cin) * cout;
    S* dx = out<S>(call, 0);
    float *dw = out(call, 1), *packed = call.scratch;
    const typename Math::Convolution packer(cout, cin, nullptr, plain);
    float* parts = packed + packer.packed_floats();
    if (dx) packer.pack(in(call, 7), true, packed);
    const long run = max_of(whole_tiles, run_floats / cout / whole_tiles * whole_tiles);
    parallel(pieces, [&](long piece) {
        const long dz_floats = line_floats<S>(run * cout);
        float *own = thread_scratch(static_cast<size_t>(dz_floats + Math::room(cin, cout, run))),
              *part = parts + piece * weights;
        S* dz = reinterpret_cast<S*>(own);
        for (long i = 0; i < weights; i++) part[i] = 0;
        typename Math::Convolution back(cout, cin, packed, plain);
        const long end = rows * (piece + 1) / pieces;
        for (long at = rows * piece / pieces; at < end; at += run) {
            const long pixels = min_of(run, end - at);
            const S* x = in<S>(call, 6) + at * cin;
            const Backward<S> norm{in<S>(call, 2) + at * cout,
                                   nullptr,
                                   in<S>(call, 3) + at * cout,
                                   nullptr,
                                   in(call, 4),
                                   dz,
                                   nullptr,
                                   static_cast<float*>(call.operand[5]),
                                   cout,
                                   0};
            gradient_rows<open>(norm, norm.dy, 0, pixels);
            if (dw) {  // meanwhile the gradients and activations of the next run come
                const Ahead<S> ahead{{norm.dy + pixels * cout, norm.x + pixels * cout}, pixels * cout};
                Math::add_products(x, cin, dz, cout, pixels, ahead, own + dz_floats, part);
            }
            if (dx) back.run(dz, pixels, dx + at * cin);
        }
    });
    if (dw) add_partial_sums(parts, weights, pieces, dw);
}

}  // namespace normed
}  // namespace fovea::FOVEA_ISA_NAMESPACE
