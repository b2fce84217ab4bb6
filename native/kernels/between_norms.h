// Pointwise convolutions in training, with the batch norms around them: they normalise the pixels that they read, so
// that the output y = clamp((x - mean) factor + beta) of the norm before is never stored, and take the statistics for
// the norm behind. Backward gives the weight's gradient, the gradient behind the clamp, and the sums that the norm's
// needs. All of it is done run by run of pixels, which stays in the second-level cache. Written once for both types of
// storage: Math is PointwiseMath or what has its parts.
#pragma once
#include "kernels/conv.h"
#include "kernels/norm_rows.h"
#include "kernels/partial_sums.h"
#include "kernels/weight_tile.h"
#include "runtime/memory.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace between {

constexpr long run_floats = (96 << 10) / 4;  // of the wide side
constexpr long whole_tiles = 24;             // pixels: a multiple of what most register tiles take
constexpr long least_pixels = 256;           // of a piece: its sums of dw are written and read once

// How all pixels are cut: runs, and pieces of whole runs.
struct Runs {
    long rows, run, count, pieces;

    Runs(long all, long width)
        : rows(all),
          run(max_of(whole_tiles, run_floats / width / whole_tiles * whole_tiles)),
          count(ceil_div(rows, run)),
          pieces(max_of(1L, min_of(min_of(rows / least_pixels, 64L), count))) {}

    long begin(long piece) const { return min_of(rows, count * piece / pieces * run); }
    // body(first pixel, pixels) over the runs of a piece.
    template <class Body>
    void over(long piece, const Body& body) const {
        const long end = begin(piece + 1);
        for (long at = begin(piece); at < end; at += run) body(at, min_of(run, end - at));
    }
};

struct Sizes {
    int cin, cout;
    Runs runs;

    explicit Sizes(const OpCall& call)
        : cin(static_cast<int>(call.ints[1])),
          cout(static_cast<int>(call.ints[2])),
          runs(call.n * call.ints[0], max_of(call.ints[1], call.ints[2])) {}
};

template <class Math>
size_t forward_scratch(const OpCall& call) {
    const Sizes s(call);
    const Epilogue none;
    const typename Math::Convolution convolution(s.cin, s.cout, nullptr, none);
    return static_cast<size_t>(convolution.packed_floats() + s.runs.pieces * moment_rows * s.cout);
}

// z; of the batch norm behind it (null without): saved, running_mean, running_var; x; saved of the batch norm before it
// (null: x is read as it is); weight, bias (may be null); of the batch norm behind it: gamma, beta. ints: positions of
// one sample, C_in, C_out; reals: low, high of y; eps, momentum of the batch norm behind.
template <class Math>
void forward(const OpCall& call) {
    using S = typename Math::Stored;
    const Sizes s(call);
    const Epilogue epilogue{in(call, 7), false, 0, 0};
    const Statistics statistics = statistics_behind(call);
    const S* x = in<S>(call, 4);
    const float* saved = in(call, 5);
    S* z = out<S>(call, 0);
    float* packed = call.scratch;
    const typename Math::Convolution packer(s.cin, s.cout, nullptr, epilogue);
    packer.pack(in(call, 6), false, packed);
    float* parts = packed + packer.packed_floats();
    parallel(s.runs.pieces, [&](long piece) {
        float* part = parts + piece * moment_rows * s.cout;
        S* y = saved ? reinterpret_cast<S*>(thread_scratch(static_cast<size_t>(line_floats<S>(s.runs.run * s.cin))))
                     : nullptr;
        typename Math::Convolution convolution(s.cin, s.cout, packed, epilogue);
        s.runs.over(piece, [&](long at, long pixels) {
            const S* from = x + at * s.cin;
            S* to = z + at * s.cout;
            if (saved) apply_rows<false, S>(from, nullptr, saved, 0, pixels, s.cin, call.reals[0], call.reals[1], y);
            convolution.run(saved ? y : from, pixels, to, saved ? from + pixels * s.cin : nullptr);
            if (!statistics.saved) return;
            if (at == s.runs.begin(piece)) start_moments(to, s.cout, part);
            add_moments(to, pixels, s.cout, part);
        });
    });
    if (statistics.saved)
        finish_statistics(statistics, parts, s.runs.pieces, s.runs.rows, s.cout,
                          [&](long piece) { return s.runs.begin(piece + 1) - s.runs.begin(piece); });
}

// Of every piece the weight's gradient; behind those of all pieces, the sums of g and of g (x - mean).
constexpr long sum_rows = 2;
constexpr Epilogue plain{};

template <class Math>
size_t backward_scratch(const OpCall& call) {
    const Sizes s(call);
    const typename Math::Convolution back(s.cout, s.cin, nullptr, plain);
    return static_cast<size_t>(back.packed_floats() + s.runs.pieces * s.cin * (s.cout + sum_rows));
}

// g, dweight, dgamma, dbeta (these may be null), means, dz, x, saved, weight; ints: see forward; reals: low, high of y.
// g is the gradient behind the clamp, with respect to (x - mean) factor + beta; `means` is for batchnorm_gradient.
template <class Math>
void backward(const OpCall& call) {
    using S = typename Math::Stored;
    const Sizes s(call);
    const typename Math::Convolution packer(s.cout, s.cin, nullptr, plain);
    S* g = out<S>(call, 0);
    float *packed = call.scratch, *parts = packed + packer.packed_floats();
    const S *dz = in<S>(call, 5), *x = in<S>(call, 6);
    const float* saved = in(call, 7);
    const long weights = static_cast<long>(s.cin) * s.cout;
    float* sums = parts + s.runs.pieces * weights;
    packer.pack(in(call, 8), true, packed);
    const bool clamps = call.reals[1] < __builtin_inff() || call.reals[0] > -__builtin_inff();
    const auto mask = clamps ? mask_and_sum<by_output, S> : mask_and_sum<open, S>;
    parallel(s.runs.pieces, [&](long piece) {
        const long y_floats = line_floats<S>(s.runs.run * s.cin), room = Math::room(s.cin, s.cout, s.runs.run);
        float *own = thread_scratch(static_cast<size_t>(y_floats + room)), *part = parts + piece * weights,
              *sum = sums + piece * sum_rows * s.cin;
        S* y = reinterpret_cast<S*>(own);
        for (long i = 0; i < weights; i++) part[i] = 0;
        for (long i = 0; i < sum_rows * s.cin; i++) sum[i] = 0;
        typename Math::Convolution back(s.cout, s.cin, packed, plain);
        s.runs.over(piece, [&](long at, long pixels) {
            const S *from = x + at * s.cin, *gradient = dz + at * s.cout;
            S* to = g + at * s.cin;
            apply_rows<false, S>(from, nullptr, saved, 0, pixels, s.cin, call.reals[0], call.reals[1], y);
            if (out(call, 1)) {  // meanwhile the inputs of the next run come, and where this one's gradient goes
                const Ahead<S> ahead{{from + pixels * s.cin, to}, pixels * s.cin};
                Math::add_products(y, s.cin, gradient, s.cout, pixels, ahead, own + y_floats, part);
            }
            back.run(gradient, pixels, to);
            mask(from, y, saved, call.reals[1], pixels, s.cin, to, sum);
        });
    });
    if (out(call, 1)) add_partial_sums(parts, weights, s.runs.pieces, out(call, 1));
    finish_gradients(saved, sums, s.runs.pieces, sum_rows * s.cin, s.runs.rows, s.cin, out(call, 2), out(call, 3),
                     out(call, 4));
}

}  // namespace between
}  // namespace fovea::FOVEA_ISA_NAMESPACE
