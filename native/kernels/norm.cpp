// Batch normalisation on rows x channels (rows = samples x positions), with what follows it in the same pass: an
// optional addition and ReLU.  z = (x - mean) inv_std gamma + beta,  y = relu(z + residual)
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
void apply_rows(const float* x, const float* skip, const float* saved, long rows, long width, float low, float* y) {
    const float *mean = saved + mean_of * width, *factor = saved + factor_of * width, *beta = saved + beta_of * width;
    const Vec lowest = broadcast(low);
    for (long row = 0; row < rows; row++) {
        for (long c = 0; c < width; c += VL) {
            const Mask mask = first_lanes(width - c);
            Vec z = (load(x + c, mask) - load(mean + c, mask)) * load(factor + c, mask) + load(beta + c, mask);
            if (residual) z += load(skip + c, mask);
            store(y + c, at_least(z, lowest), mask);
        }
        x += width;
        y += width;
        if (residual) skip += width;
    }
}

void apply(const OpCall& call, const float* x, const float* skip, const float* saved, float* y) {
    const long width = call.ints[1];
    const float low = call.ints[2] ? 0.0f : -__builtin_inff();
    over_rows(call.n * call.ints[0], width, [=](long begin, long end) {
        const long at = begin * width;
        if (skip) apply_rows<true>(x + at, skip + at, saved, end - begin, width, low, y + at);
        else apply_rows<false>(x + at, nullptr, saved, end - begin, width, low, y + at);
    });
}

// y, saved, running_mean, running_var, x, gamma, beta, residual (may be null);
// ints: rows of one sample, C, whether ReLU follows; reals: eps, momentum.
void batchnorm(const OpCall& call) {
    const float *x = in(call, 4), *gamma = in(call, 5), *beta = in(call, 6);
    float *saved = out(call, 1), *running_mean = out(call, 2), *running_var = out(call, 3), *parts = call.scratch;
    const long width = call.ints[1], rows = call.n * call.ints[0], chunks = sum_chunks(rows, width);
    over_chunks(rows, chunks, [=](long chunk, long begin, long end) {
        chunk_moments(x + begin * width, end - begin, width, parts + chunk * 3 * width);
    });
    const double eps = static_cast<double>(call.reals[0]), momentum = static_cast<double>(call.reals[1]);
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
    apply(call, x, in(call, 7), saved, out(call, 0));
}

// y, saved, x, gamma, beta, running_mean, running_var, residual (may be null); ints as above; reals: eps.
void batchnorm_inference(const OpCall& call) {
    const float *gamma = in(call, 3), *beta = in(call, 4), *running_mean = in(call, 5), *running_var = in(call, 6);
    float* saved = out(call, 1);
    const long width = call.ints[1];
    for (long c = 0; c < width; c++) {
        const double variance = static_cast<double>(running_var[c]) + static_cast<double>(call.reals[0]);
        const double inv_std = 1.0 / __builtin_sqrt(variance);
        saved[mean_of * width + c] = running_mean[c];
        saved[inv_std_of * width + c] = static_cast<float>(inv_std);
        saved[factor_of * width + c] = static_cast<float>(inv_std * static_cast<double>(gamma[c]));
        saved[beta_of * width + c] = beta[c];
    }
    apply(call, in(call, 2), in(call, 7), saved, out(call, 0));
}

// How the gradient g behind ReLU is found: no ReLU; from the stored output; from x (recomputed as forward did).
enum Gate { open, by_output, by_input };

template <Gate gate>
FOVEA_INLINE Vec gated(Vec dy, Vec x, const float* y, const float* saved, long width, long c, Mask mask) {
    if (gate == open) return dy;
    if (gate == by_output) return load(y + c, mask) > 0.0f ? dy : Vec{};
    const Vec z = (x - load(saved + mean_of * width + c, mask)) * load(saved + factor_of * width + c, mask) +
                  load(saved + beta_of * width + c, mask);
    return z > 0.0f ? dy : Vec{};
}

// sum(g) and sum(g (x - mean)) of one chunk.
template <Gate gate>
void chunk_gradients(const float* dy, const float* x, const float* y, const float* saved, long rows, long width,
                     float* part) {
    for (long c = 0; c < 2 * width; c++) part[c] = 0;
    for (long first = 0; first < rows; first += block_rows) {
        const long last = min_of(first + block_rows, rows);
        for (long c = 0; c < width; c += VL) {
            const Mask mask = first_lanes(width - c);
            const Vec mean = load(saved + mean_of * width + c, mask);
            Vec s[4] = {}, q[4] = {};
            for (long row = first; row < last; row += 4) {
                FOVEA_UNROLL
                for (int i = 0; i < 4; i++) {
                    if (row + i >= last) break;
                    const long at = (row + i) * width;
                    const Vec xi = load(x + at + c, mask);
                    const Vec g = gated<gate>(load(dy + at + c, mask), xi, y + at, saved, width, c, mask);
                    s[i] += g;
                    q[i] += g * (xi - mean);
                }
            }
            store(part + c, load(part + c, mask) + ((s[0] + s[1]) + (s[2] + s[3])), mask);
            store(part + width + c, load(part + width + c, mask) + ((q[0] + q[1]) + (q[2] + q[3])), mask);
        }
    }
}

// dx = factor (g - mean(g) - (x - mean) inv_std^2 mean(g (x - mean)));  the residual's gradient is g.
template <Gate gate>
void gradient_rows(const float* dy, const float* x, const float* y, const float* saved, const float* means, long rows,
                   long width, float* dx, float* dskip) {
    const float *mean = saved + mean_of * width, *factor = saved + factor_of * width;
    for (long row = 0; row < rows; row++) {
        const long at = row * width;
        for (long c = 0; c < width; c += VL) {
            const Mask mask = first_lanes(width - c);
            const Vec xi = load(x + at + c, mask);
            const Vec g = gated<gate>(load(dy + at + c, mask), xi, y + at, saved, width, c, mask);
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

template <Gate gate>
void backward(const OpCall& call) {
    float *dx = out(call, 0), *dgamma = out(call, 1), *dbeta = out(call, 2), *dskip = out(call, 3);
    const float *dy = in(call, 4), *x = in(call, 5), *y = in(call, 6), *saved = in(call, 7);
    const long width = call.ints[1], rows = call.n * call.ints[0], chunks = sum_chunks(rows, width);
    float *means = call.scratch, *parts = call.scratch + 2 * width;
    over_chunks(rows, chunks, [=](long chunk, long begin, long end) {
        const long at = begin * width;
        chunk_gradients<gate>(dy + at, x + at, y + at, saved, end - begin, width, parts + chunk * 2 * width);
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
    over_rows(rows, width, [=](long begin, long end) {
        const long at = begin * width;
        gradient_rows<gate>(dy + at, x + at, y + at, saved, means, end - begin, width, dx + at,
                            dskip ? dskip + at : nullptr);
    });
}

// dx (may be null), dgamma, dbeta (may be null), dresidual (may be null), dy, x, y (only read with gate 1), saved;
// ints: rows of one sample, C, gate.
void batchnorm_backward(const OpCall& call) {
    if (call.ints[2] == by_output) backward<by_output>(call);
    else if (call.ints[2] == by_input) backward<by_input>(call);
    else backward<open>(call);
}

// dx, dresidual (may be null), dy, x, y, saved; ints as above. Statistics are constants: dx = factor g.
void batchnorm_inference_backward(const OpCall& call) {
    float *dx = out(call, 0), *dskip = out(call, 1);
    const float *dy = in(call, 2), *x = in(call, 3), *y = in(call, 4), *saved = in(call, 5);
    const long width = call.ints[1], gate = call.ints[2];
    over_rows(call.n * call.ints[0], width, [=](long begin, long end) {
        for (long row = begin; row < end; row++)
            for (long c = 0; c < width; c += VL) {
                const Mask mask = first_lanes(width - c);
                const long at = row * width;
                Vec g = load(dy + at + c, mask);
                if (gate == by_output) g = gated<by_output>(g, g, y + at, saved, width, c, mask);
                else if (gate == by_input) g = gated<by_input>(g, load(x + at + c, mask), y, saved, width, c, mask);
                if (dskip) store(dskip + at + c, g, mask);
                if (dx) store(dx + at + c, g * load(saved + factor_of * width + c, mask), mask);
            }
    });
}

const OpKernel list[] = {
    {"batchnorm", 8, 3, 2, batchnorm, moments_scratch},
    {"batchnorm_backward", 8, 3, 0, batchnorm_backward, gradient_scratch},
    {"batchnorm_inference", 8, 3, 1, batchnorm_inference, nullptr},
    {"batchnorm_inference_backward", 6, 3, 0, batchnorm_inference_backward, nullptr},
};

}  // namespace

OpList norm_ops() { return op_list(list); }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
