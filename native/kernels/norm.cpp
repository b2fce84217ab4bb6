// Batch normalisation on rows x channels (rows = samples x positions), with what follows it in the same pass: an
// optional addition and ReLU or ReLU6.  z = (x - mean) inv_std gamma + beta,  y = min(max(z + residual, 0), high)
#include "kernels/families.h"
#include "kernels/norm_rows.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

size_t moments_scratch(const OpCall& call) {
    return static_cast<size_t>(sum_chunks(call.n * call.ints[0], call.ints[1]) * moment_rows * call.ints[1]);
}

template <class S>
void apply(const OpCall& call, const S* x, const S* skip, const float* saved, float high, S* y) {
    const long width = call.ints[1];
    const bool clamp = call.ints[2] != 0;
    const float low = clamp ? 0.0f : -__builtin_inff(), top = clamp ? high : __builtin_inff();
    over_rows(call.n * call.ints[0], width, [=](long begin, long end) {
        if (skip)
            apply_rows<true>(x, skip, saved, begin, end, width, low, top, y);
        else
            apply_rows<false>(x, skip, saved, begin, end, width, low, top, y);
    });
}

template <class S>
void take_statistics(const OpCall& call, const S* x, const Statistics& statistics) {
    const long width = call.ints[1], rows = call.n * call.ints[0], chunks = sum_chunks(rows, width);
    float* parts = call.scratch;
    over_chunks(rows, chunks, [=](long chunk, long begin, long end) {
        start_moments(x + begin * width, width, parts + chunk * moment_rows * width);
        add_moments(x + begin * width, end - begin, width, parts + chunk * moment_rows * width);
    });
    finish_statistics(statistics, parts, chunks, rows, width,
                      [=](long chunk) { return rows * (chunk + 1) / chunks - rows * chunk / chunks; });
}

// y, saved, running_mean, running_var, x, gamma, beta, residual (may be null);
// ints: rows of one sample, C, whether a clamp to [0, high] follows; reals: high, eps, momentum.
template <class S>
void batchnorm(const OpCall& call) {
    const S* x = in<S>(call, 4);
    const Statistics statistics{out(call, 1),
                                out(call, 2),
                                out(call, 3),
                                in(call, 5),
                                in(call, 6),
                                static_cast<double>(call.reals[1]),
                                static_cast<double>(call.reals[2])};
    take_statistics(call, x, statistics);
    apply(call, x, in<S>(call, 7), statistics.saved, call.reals[0], out<S>(call, 0));
}

// saved, running_mean, running_var, x, gamma, beta; ints: rows of one sample, C; reals: eps, momentum. What reads x
// next normalises it itself.
template <class S>
void batchnorm_statistics(const OpCall& call) {
    take_statistics(call, in<S>(call, 3),
                    {out(call, 0), out(call, 1), out(call, 2), in(call, 4), in(call, 5),
                     static_cast<double>(call.reals[0]), static_cast<double>(call.reals[1])});
}

// y, x, saved, residual (may be null); ints: as batchnorm's; reals: high. The rest of batchnorm where the statistics
// have been taken.
template <class S>
void batchnorm_apply(const OpCall& call) {
    apply(call, in<S>(call, 1), in<S>(call, 3), in(call, 2), call.reals[0], out<S>(call, 0));
}

// y, saved, x, gamma, beta, running_mean, running_var, residual (may be null); ints as above; reals: high, eps.
template <class S>
void batchnorm_inference(const OpCall& call) {
    const float *gamma = in(call, 3), *beta = in(call, 4), *running_mean = in(call, 5), *running_var = in(call, 6);
    float* saved = out(call, 1);
    const long width = call.ints[1];
    for (long c = 0; c < width; c++) {
        const double variance = static_cast<double>(running_var[c]) + static_cast<double>(call.reals[1]);
        const double inv_std = 1.0 / __builtin_sqrt(variance);
        saved[mean_of * width + c] = running_mean[c];
        saved[inv_std_of * width + c] = static_cast<float>(inv_std);
        saved[factor_of * width + c] = static_cast<float>(inv_std * static_cast<double>(gamma[c]));
        saved[beta_of * width + c] = beta[c];
    }
    apply(call, in<S>(call, 2), in<S>(call, 7), saved, call.reals[0], out<S>(call, 0));
}

// sum(g) and sum(g (x - mean)) over rows [begin, end). With a residual g = mask(dy + term) is stored as its gradient.
template <GateKind kind, bool stores, class S>
void chunk_gradients(const Backward<S>& b, long begin, long end, float* part) {
    const long width = b.width;
    for (long c = 0; c < 2 * width; c++) part[c] = 0;
    const Vec high = broadcast(b.high);
    over_blocks(begin, end, width, [&](const auto& group, long first, long last) {
        Gate<kind> gate[Channels<decltype(group)>::count];
        FOVEA_UNROLL
        for (int k = 0; k < group.count; k++) gate[k].read(group, k, b.saved, width);
        add_sums(group, first, last, part, width, [&](long row, int k, Vec& s, Vec& q) {
            const long at = row * width;
            const Vec x = group.get(b.x + at, k), y = kind == by_output ? group.get(b.y + at, k) : Vec{};
            Vec dy = group.get(b.dy + at, k);
            if (stores && b.term) dy += group.get(b.term + at, k);
            const Vec g = gate[k].masked(dy, x, y, high);
            if (stores) group.put(b.dskip + at, k, g);
            s += g;
            q += g * (x - gate[k].mean);
        });
    });
}

size_t gradient_scratch(const OpCall& call) {
    return static_cast<size_t>((sum_chunks(call.n * call.ints[0], call.ints[1]) + 1) * 2 * call.ints[1]);
}

template <GateKind kind, bool stores, class S>
void backward(const OpCall& call) {
    float *dgamma = out(call, 1), *dbeta = out(call, 2), *parts = call.scratch + 2 * call.ints[1];
    const long width = call.ints[1], rows = call.n * call.ints[0], chunks = sum_chunks(rows, width);
    const Backward<S> b{in<S>(call, 4),  in<S>(call, 8),  in<S>(call, 5), in<S>(call, 6), in(call, 7),
                        out<S>(call, 0), out<S>(call, 3), call.scratch,   width,          call.reals[0]};
    over_chunks(rows, chunks, [&](long chunk, long begin, long end) {
        chunk_gradients<kind, stores>(b, begin, end, parts + chunk * 2 * width);
    });
    finish_gradients(b.saved, parts, chunks, 2 * width, rows, width, dgamma, dbeta, b.means);
    if (!b.dx) return;
    over_rows(rows, width, [&](long begin, long end) {
        if (stores)
            gradient_rows<open>(b, b.dskip, begin, end);
        else
            gradient_rows<kind>(b, b.dy, begin, end);
    });
}

// dx, g, x, saved, means; ints: rows of one sample, C. The second half of batchnorm_backward where the first one, which
// masks the gradient and leaves its `means`, was done elsewhere.
template <class S>
void batchnorm_gradient(const OpCall& call) {
    const Backward<S> b{in<S>(call, 1), nullptr,
                        in<S>(call, 2), nullptr,
                        in(call, 3),    out<S>(call, 0),
                        nullptr,        static_cast<float*>(call.operand[4]),
                        call.ints[1],   0};
    over_rows(call.n * call.ints[0], b.width, [&](long begin, long end) { gradient_rows<open>(b, b.dy, begin, end); });
}

// dx (may be null), dgamma, dbeta (may be null), dresidual (may be null), dy, x, y (only read with gate 1), saved,
// term (added to dy; only with dresidual, may be null); ints: rows of one sample, C, gate; reals: high.
template <class S>
void batchnorm_backward(const OpCall& call) {
    if (call.operand[3])
        backward<by_output, true, S>(call);
    else if (call.ints[2] == by_output)
        backward<by_output, false, S>(call);
    else if (call.ints[2] == by_input)
        backward<by_input, false, S>(call);
    else
        backward<open, false, S>(call);
}

template <GateKind kind, class S>
void constant_backward(const OpCall& call) {
    S *dx = out<S>(call, 0), *dskip = out<S>(call, 1);
    const S *dy = in<S>(call, 2), *x = in<S>(call, 3), *y = in<S>(call, 4);
    const float* saved = in(call, 5);
    const long width = call.ints[1];
    const float high = call.reals[0];
    over_rows(call.n * call.ints[0], width, [=](long begin, long end) {
        over_blocks(begin, end, width, [=](const auto& group, long first, long last) {
            Gate<kind> gate[Channels<decltype(group)>::count];
            for (int k = 0; k < group.count; k++) gate[k].read(group, k, saved, width);
            for (long at = first * width; at < last * width; at += width) FOVEA_UNROLL
            for (int k = 0; k < group.count; k++) {
                const Vec xi = kind == by_input ? group.get(x + at, k) : Vec{};
                const Vec yi = kind == by_output ? group.get(y + at, k) : Vec{};
                const Vec g = gate[k].masked(group.get(dy + at, k), xi, yi, broadcast(high));
                if (dskip) group.put(dskip + at, k, g);
                if (dx) group.put(dx + at, k, g * gate[k].factor);
            }
        });
    });
}

// dx, dresidual (each may be null), dy, x, y, saved; ints and reals as above. Statistics are constants: dx = factor g.
template <class S>
void batchnorm_inference_backward(const OpCall& call) {
    if (call.ints[2] == by_output)
        constant_backward<by_output, S>(call);
    else if (call.ints[2] == by_input)
        constant_backward<by_input, S>(call);
    else
        constant_backward<open, S>(call);
}

// folded weight, folded bias, weight, bias (may be null), gamma, beta, running_mean, running_var;
// ints: rows of the weight (taps x C_in), C_out; reals: eps. A convolution that applies the normalisation behind it:
// w' = w gamma / sigma,  b' = (b - mean) gamma / sigma + beta
void fold(const OpCall& call) {
    float *folded = out(call, 0), *shift = out(call, 1);
    const float *weight = in(call, 2), *bias = in(call, 3), *gamma = in(call, 4), *beta = in(call, 5);
    const float *mean = in(call, 6), *variance = in(call, 7);
    const long rows = call.ints[0], width = call.ints[1];
    float* factors = call.scratch;
    for (long c = 0; c < width; c++) {
        const double sigma = __builtin_sqrt(static_cast<double>(variance[c]) + static_cast<double>(call.reals[0]));
        const double factor = static_cast<double>(gamma[c]) / sigma;
        const double center = static_cast<double>(bias ? bias[c] : 0.0f) - static_cast<double>(mean[c]);
        shift[c] = static_cast<float>(center * factor + static_cast<double>(beta[c]));
        factors[c] = static_cast<float>(factor);
    }
    over_rows(rows, width, [=](long begin, long end) {
        for (long row = begin; row < end; row++)
            for (long c = 0; c < width; c++) folded[row * width + c] = weight[row * width + c] * factors[c];
    });
}

size_t fold_scratch(const OpCall& call) { return static_cast<size_t>(call.ints[1]); }

const OpKernel list[] = {
    {"batchnorm", 8, 3, 3, batchnorm<float>, moments_scratch, operands(0, 4, 7), batchnorm<bf16>},
    {"batchnorm_backward", 9, 3, 1, batchnorm_backward<float>, gradient_scratch, operands(0, 3, 4, 5, 6, 8),
     batchnorm_backward<bf16>},
    {"batchnorm_statistics", 6, 2, 2, batchnorm_statistics<float>, moments_scratch, operands(3),
     batchnorm_statistics<bf16>},
    {"batchnorm_apply", 4, 3, 1, batchnorm_apply<float>, nullptr, operands(0, 1, 3), batchnorm_apply<bf16>},
    {"batchnorm_gradient", 5, 2, 0, batchnorm_gradient<float>, nullptr, operands(0, 1, 2), batchnorm_gradient<bf16>},
    {"batchnorm_inference", 8, 3, 2, batchnorm_inference<float>, nullptr, operands(0, 2, 7), batchnorm_inference<bf16>},
    {"batchnorm_inference_backward", 6, 3, 1, batchnorm_inference_backward<float>, nullptr, operands(0, 1, 2, 3, 4),
     batchnorm_inference_backward<bf16>},
    {"batchnorm_fold", 8, 2, 1, fold, fold_scratch},
};

}  // namespace

OpList norm_ops() { return op_list(list); }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
