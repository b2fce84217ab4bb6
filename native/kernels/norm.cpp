// Batch normalisation on rows x channels (rows = samples x positions), with what follows it in the same pass: an
// optional addition and ReLU or ReLU6.  z = (x - mean) inv_std gamma + beta,  y = min(max(z + residual, 0), high)
#include "kernels/families.h"
#include "kernels/op_tools.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// What forward leaves for backward, C floats each.
enum Saved { mean_of, inv_std_of, factor_of, beta_of, saved_rows };

constexpr long block_rows = 64;  // of these the sums are kept in registers

// For one chunk of rows and its first row as pivot p: sum(x - p), sum((x - p)^2). The pivot keeps the difference of
// large sums small when the mean is far from 0.
void chunk_moments(const float* x, long rows, long width, float* part) {
    float *pivot = part, *sum = part + width, *square = part + 2 * width;
    for (long c = 0; c < width; c++) {
        pivot[c] = x[c];
        sum[c] = square[c] = 0;
    }
    for (long first = 0; first < rows; first += block_rows) {
        const long last = min_of(first + block_rows, rows);
        for (long c = 0; c < width; c += VL) {
            const Mask mask = first_lanes(width - c);
            const Vec p = load(pivot + c, mask);
            Vec s[4] = {}, q[4] = {};
            long row = first;
            for (; row + 4 <= last; row += 4) FOVEA_UNROLL
            for (int i = 0; i < 4; i++) {
                const Vec d = load(x + (row + i) * width + c, mask) - p;
                s[i] += d;
                q[i] += d * d;
            }
            for (; row < last; row++) {
                const Vec d = load(x + row * width + c, mask) - p;
                s[0] += d;
                q[0] += d * d;
            }
            store(sum + c, load(sum + c, mask) + ((s[0] + s[1]) + (s[2] + s[3])), mask);
            store(square + c, load(square + c, mask) + ((q[0] + q[1]) + (q[2] + q[3])), mask);
        }
    }
}

// Mean and biased variance of one channel from the chunks (Chan et al. 1983, equation 2.1), in order, in double.
void combine_moments(const float* parts, long chunks, long rows, long width, long c, double* mean, double* variance) {
    double total = 0, center = 0, scatter = 0;
    for (long chunk = 0; chunk < chunks; chunk++) {
        const double count = static_cast<double>(rows * (chunk + 1) / chunks - rows * chunk / chunks);
        const float* part = parts + chunk * 3 * width + c;
        const double s = static_cast<double>(part[width]), q = static_cast<double>(part[2 * width]);
        const double own = static_cast<double>(part[0]) + s / count, spread = q - s * s / count;
        const double delta = own - center;
        scatter += spread + delta * delta * total * count / (total + count);
        center += delta * count / (total + count);
        total += count;
    }
    *mean = center;
    *variance = max_of(scatter, 0.0) / total;
}

size_t moments_scratch(const OpCall& call) {
    return static_cast<size_t>(sum_chunks(call.n * call.ints[0], call.ints[1]) * 3 * call.ints[1]);
}

template <bool residual>
void apply_rows(const float* x, const float* skip, const float* saved, long rows, long width, float low, float high,
                float* y) {
    const float *mean = saved + mean_of * width, *factor = saved + factor_of * width, *beta = saved + beta_of * width;
    const Vec lowest = broadcast(low), highest = broadcast(high);
    for (long row = 0; row < rows; row++) {
        for (long c = 0; c < width; c += VL) {
            const Mask mask = first_lanes(width - c);
            Vec z = (load(x + c, mask) - load(mean + c, mask)) * load(factor + c, mask) + load(beta + c, mask);
            if (residual) z += load(skip + c, mask);
            store(y + c, at_most(at_least(z, lowest), highest), mask);
        }
        x += width;
        y += width;
        if (residual) skip += width;
    }
}

void apply(const OpCall& call, const float* x, const float* skip, const float* saved, float high, float* y) {
    const long width = call.ints[1];
    const bool clamp = call.ints[2] != 0;
    const float low = clamp ? 0.0f : -__builtin_inff(), top = clamp ? high : __builtin_inff();
    over_rows(call.n * call.ints[0], width, [=](long begin, long end) {
        const long at = begin * width;
        if (skip)
            apply_rows<true>(x + at, skip + at, saved, end - begin, width, low, top, y + at);
        else
            apply_rows<false>(x + at, nullptr, saved, end - begin, width, low, top, y + at);
    });
}

// y, saved, running_mean, running_var, x, gamma, beta, residual (may be null);
// ints: rows of one sample, C, whether a clamp to [0, high] follows; reals: high, eps, momentum.
void batchnorm(const OpCall& call) {
    const float *x = in(call, 4), *gamma = in(call, 5), *beta = in(call, 6);
    float *saved = out(call, 1), *running_mean = out(call, 2), *running_var = out(call, 3), *parts = call.scratch;
    const long width = call.ints[1], rows = call.n * call.ints[0], chunks = sum_chunks(rows, width);
    over_chunks(rows, chunks, [=](long chunk, long begin, long end) {
        chunk_moments(x + begin * width, end - begin, width, parts + chunk * 3 * width);
    });
    const double eps = static_cast<double>(call.reals[1]), momentum = static_cast<double>(call.reals[2]);
    const double unbias = rows > 1 ? static_cast<double>(rows) / static_cast<double>(rows - 1) : 1.0;
    for (long c = 0; c < width; c++) {
        double mean, variance;
        combine_moments(parts, chunks, rows, width, c, &mean, &variance);
        const double inv_std = 1.0 / __builtin_sqrt(variance + eps);
        saved[mean_of * width + c] = static_cast<float>(mean);
        saved[inv_std_of * width + c] = static_cast<float>(inv_std);
        saved[factor_of * width + c] = static_cast<float>(inv_std * static_cast<double>(gamma[c]));
        saved[beta_of * width + c] = beta[c];
        const double old_mean = static_cast<double>(running_mean[c]), old_var = static_cast<double>(running_var[c]);
        running_mean[c] = static_cast<float>((1.0 - momentum) * old_mean + momentum * mean);
        running_var[c] = static_cast<float>((1.0 - momentum) * old_var + momentum * variance * unbias);
    }
    apply(call, x, in(call, 7), saved, call.reals[0], out(call, 0));
}

// y, saved, x, gamma, beta, running_mean, running_var, residual (may be null); ints as above; reals: high, eps.
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
    apply(call, in(call, 2), in(call, 7), saved, call.reals[0], out(call, 0));
}

// How the gradient g behind the clamp is found: no clamp; from the stored output; from x (recomputed as forward did).
enum GateKind { open, by_output, by_input };

template <GateKind kind>
struct Gate {
    const float *y, *saved;
    Vec high;
    long width;

    FOVEA_INLINE Vec operator()(Vec dy, Vec x, long at, long c, Mask mask) const {
        if (kind == open) return dy;
        Vec z;
        if (kind == by_output)
            z = load(y + at + c, mask);
        else
            z = (x - load(saved + mean_of * width + c, mask)) * load(saved + factor_of * width + c, mask) +
                load(saved + beta_of * width + c, mask);
        const Vec below = z < high ? dy : Vec{};
        return z > 0.0f ? below : Vec{};
    }
};

// sum(g) and sum(g (x - mean)) over rows [begin, end).
template <GateKind kind>
void chunk_gradients(const Gate<kind>& gate, const float* dy, const float* x, long begin, long end, float* part) {
    const long width = gate.width;
    for (long c = 0; c < 2 * width; c++) part[c] = 0;
    for (long first = begin; first < end; first += block_rows) {
        const long last = min_of(first + block_rows, end);
        for (long c = 0; c < width; c += VL) {
            const Mask mask = first_lanes(width - c);
            const Vec mean = load(gate.saved + mean_of * width + c, mask);
            Vec s[4] = {}, q[4] = {};
            const auto take = [&](long row, int i) {
                const Vec xi = load(x + row * width + c, mask);
                const Vec g = gate(load(dy + row * width + c, mask), xi, row * width, c, mask);
                s[i] += g;
                q[i] += g * (xi - mean);
            };
            long row = first;
            for (; row + 4 <= last; row += 4) FOVEA_UNROLL
            for (int i = 0; i < 4; i++) take(row + i, i);
            for (; row < last; row++) take(row, 0);
            store(part + c, load(part + c, mask) + ((s[0] + s[1]) + (s[2] + s[3])), mask);
            store(part + width + c, load(part + width + c, mask) + ((q[0] + q[1]) + (q[2] + q[3])), mask);
        }
    }
}

// dx = factor (g - mean(g) - (x - mean) inv_std^2 mean(g (x - mean)));  the residual's gradient is g.
template <GateKind kind>
void gradient_rows(const Gate<kind>& gate, const float* dy, const float* x, const float* means, long begin, long end,
                   float* dx, float* dskip) {
    const long width = gate.width;
    const float *mean = gate.saved + mean_of * width, *factor = gate.saved + factor_of * width;
    for (long at = begin * width; at < end * width; at += width) {
        for (long c = 0; c < width; c += VL) {
            const Mask mask = first_lanes(width - c);
            const Vec xi = load(x + at + c, mask);
            const Vec g = gate(load(dy + at + c, mask), xi, at, c, mask);
            if (dskip) store(dskip + at + c, g, mask);
            const Vec centered = xi - load(mean + c, mask);
            const Vec rest = g - load(means + c, mask) - centered * load(means + width + c, mask);
            store(dx + at + c, rest * load(factor + c, mask), mask);
        }
    }
}

size_t gradient_scratch(const OpCall& call) {
    return static_cast<size_t>((sum_chunks(call.n * call.ints[0], call.ints[1]) + 1) * 2 * call.ints[1]);
}

template <GateKind kind>
void backward(const OpCall& call) {
    float *dx = out(call, 0), *dgamma = out(call, 1), *dbeta = out(call, 2), *dskip = out(call, 3);
    const float *dy = in(call, 4), *x = in(call, 5), *saved = in(call, 7);
    const long width = call.ints[1], rows = call.n * call.ints[0], chunks = sum_chunks(rows, width);
    const Gate<kind> gate{in(call, 6), saved, broadcast(call.reals[0]), width};
    float *means = call.scratch, *parts = call.scratch + 2 * width;
    over_chunks(rows, chunks, [&](long chunk, long begin, long end) {
        chunk_gradients(gate, dy, x, begin, end, parts + chunk * 2 * width);
    });
    for (long c = 0; c < width; c++) {
        const double sum = sum_parts(parts + c, chunks, 2 * width);
        const double product = sum_parts(parts + width + c, chunks, 2 * width);
        const double inv_std = static_cast<double>(saved[inv_std_of * width + c]);
        if (dgamma) dgamma[c] = static_cast<float>(product * inv_std);
        if (dbeta) dbeta[c] = static_cast<float>(sum);
        means[c] = static_cast<float>(sum / static_cast<double>(rows));
        means[width + c] = static_cast<float>(product * inv_std * inv_std / static_cast<double>(rows));
    }
    if (!dx) return;
    over_rows(rows, width, [&](long begin, long end) { gradient_rows(gate, dy, x, means, begin, end, dx, dskip); });
}

// dx (null only without dresidual), dgamma, dbeta, dresidual (may be null), dy, x, y (only read with gate 1), saved;
// ints: rows of one sample, C, gate; reals: high.
void batchnorm_backward(const OpCall& call) {
    if (call.ints[2] == by_output)
        backward<by_output>(call);
    else if (call.ints[2] == by_input)
        backward<by_input>(call);
    else
        backward<open>(call);
}

template <GateKind kind>
void constant_backward(const OpCall& call) {
    float *dx = out(call, 0), *dskip = out(call, 1);
    const float *dy = in(call, 2), *x = in(call, 3), *saved = in(call, 5);
    const long width = call.ints[1];
    const Gate<kind> gate{in(call, 4), saved, broadcast(call.reals[0]), width};
    over_rows(call.n * call.ints[0], width, [&](long begin, long end) {
        for (long at = begin * width; at < end * width; at += width)
            for (long c = 0; c < width; c += VL) {
                const Mask mask = first_lanes(width - c);
                const Vec xi = kind == by_input ? load(x + at + c, mask) : Vec{};
                const Vec g = gate(load(dy + at + c, mask), xi, at, c, mask);
                if (dskip) store(dskip + at + c, g, mask);
                if (dx) store(dx + at + c, g * load(saved + factor_of * width + c, mask), mask);
            }
    });
}

// dx, dresidual (each may be null), dy, x, y, saved; ints and reals as above. Statistics are constants: dx = factor g.
void batchnorm_inference_backward(const OpCall& call) {
    if (call.ints[2] == by_output)
        constant_backward<by_output>(call);
    else if (call.ints[2] == by_input)
        constant_backward<by_input>(call);
    else
        constant_backward<open>(call);
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
    {"batchnorm", 8, 3, 3, batchnorm, moments_scratch},
    {"batchnorm_backward", 8, 3, 1, batchnorm_backward, gradient_scratch},
    {"batchnorm_inference", 8, 3, 2, batchnorm_inference, nullptr},
    {"batchnorm_inference_backward", 6, 3, 1, batchnorm_inference_backward, nullptr},
    {"batchnorm_fold", 8, 2, 1, fold, fold_scratch},
};

}  // namespace

OpList norm_ops() { return op_list(list); }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
