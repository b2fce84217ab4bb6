// Batch normalisation on rows x channels (rows = samples x positions), with what follows it in the same pass: an
// optional addition and ReLU or ReLU6.  z = (x - mean) inv_std gamma + beta,  y = min(max(z + residual, 0), high)
#include "kernels/families.h"
#include "kernels/op_tools.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// What forward leaves for backward, C floats each.
enum Saved { mean_of, inv_std_of, factor_of, beta_of, saved_rows };

// Neighbouring vectors of channels that are worked on together: what belongs to the channels stays in registers over
// many rows, and every row is still read in long runs.
template <int vectors>
struct Group {
    static constexpr int count = vectors;
    long first;
    Mask mask[vectors];

    FOVEA_INLINE Group(long c, long width) : first(c) {
        for (int k = 0; k < vectors; k++) mask[k] = first_lanes(width - c - static_cast<long>(k) * VL);
    }
    FOVEA_INLINE long at(int k) const { return first + static_cast<long>(k) * VL; }
    template <class S>
    FOVEA_INLINE Vec get(const S* p, int k) const {
        return load(p + at(k), mask[k]);
    }
    template <class S>
    FOVEA_INLINE void put(S* p, int k, Vec v) const {
        store(p + at(k), v, mask[k]);
    }
};

// The group's count inside of a generic lambda.
template <class G>
struct Channels;
template <int vectors>
struct Channels<const Group<vectors>&> {
    static constexpr int count = vectors;
};

// body(group, first row, behind the last row) over blocks of rows that stay in the first cache.
template <class Body>
FOVEA_INLINE void over_blocks(long begin, long end, long width, const Body& body) {
    const long rows = max_of(8L, 4096 / width);
    for (long first = begin; first < end; first += rows) {
        const long last = min_of(first + rows, end);
        for (long c = 0; c < width;) {
            const long left = ceil_div(width - c, VL);
            if (left >= 4)
                body(Group<4>(c, width), first, last);
            else if (left >= 2)
                body(Group<2>(c, width), first, last);
            else
                body(Group<1>(c, width), first, last);
            c += (left >= 4 ? 4 : left >= 2 ? 2 : 1) * VL;
        }
    }
}

// Two sums over the rows of a block, `take(row, k, first, second)` adding to them; several rows at a time where there
// are few channels, so that additions do not wait for each other. The sums are added to what `to` holds.
template <class G, class Take>
FOVEA_INLINE void add_sums(const G& group, long first, long last, float* to, long width, const Take& take) {
    constexpr int chains = 4 / G::count;
    Vec s[G::count][chains] = {}, q[G::count][chains] = {};
    long row = first;
    for (; row + chains <= last; row += chains) FOVEA_UNROLL
    for (int i = 0; i < chains; i++) FOVEA_UNROLL
    for (int k = 0; k < G::count; k++) take(row + i, k, s[k][i], q[k][i]);
    for (; row < last; row++) FOVEA_UNROLL
    for (int k = 0; k < G::count; k++) take(row, k, s[k][0], q[k][0]);
    FOVEA_UNROLL
    for (int k = 0; k < G::count; k++) {
        for (int i = 1; i < chains; i++) {
            s[k][0] += s[k][i];
            q[k][0] += q[k][i];
        }
        group.put(to, k, group.get(to, k) + s[k][0]);
        group.put(to + width, k, group.get(to + width, k) + q[k][0]);
    }
}

// For one chunk of rows and its first row as pivot p: sum(x - p), sum((x - p)^2). The pivot keeps the difference of
// large sums small when the mean is far from 0.
template <class S>
void chunk_moments(const S* x, long rows, long width, float* part) {
    float *pivot = part, *sum = part + width;  // the squares behind the sums
    for (long c = 0; c < width; c += VL) store(pivot + c, load(x + c, first_lanes(width - c)), first_lanes(width - c));
    for (long c = 0; c < 2 * width; c++) sum[c] = 0;
    over_blocks(0, rows, width, [=](const auto& group, long first, long last) {
        add_sums(group, first, last, sum, width, [=, &group](long row, int k, Vec& s, Vec& q) {
            const Vec d = group.get(x + row * width, k) - group.get(pivot, k);
            s += d;
            q += d * d;
        });
    });
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

template <bool residual, class S>
void apply_rows(const S* x, const S* skip, const float* saved, long begin, long end, long width, float low, float high,
                S* y) {
    const Vec lowest = broadcast(low), highest = broadcast(high);
    over_blocks(begin, end, width, [=](const auto& group, long first, long last) {
        constexpr int count = Channels<decltype(group)>::count;
        Vec mean[count], factor[count], beta[count];
        for (int k = 0; k < count; k++) {
            mean[k] = group.get(saved + mean_of * width, k);
            factor[k] = group.get(saved + factor_of * width, k);
            beta[k] = group.get(saved + beta_of * width, k);
        }
        for (long at = first * width; at < last * width; at += width) FOVEA_UNROLL
        for (int k = 0; k < count; k++) {
            Vec z = (group.get(x + at, k) - mean[k]) * factor[k] + beta[k];
            if (residual) z += group.get(skip + at, k);
            group.put(y + at, k, at_most(at_least(z, lowest), highest));
        }
    });
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

// y, saved, running_mean, running_var, x, gamma, beta, residual (may be null);
// ints: rows of one sample, C, whether a clamp to [0, high] follows; reals: high, eps, momentum.
template <class S>
void batchnorm(const OpCall& call) {
    const S* x = in<S>(call, 4);
    const float *gamma = in(call, 5), *beta = in(call, 6);
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
    apply(call, x, in<S>(call, 7), saved, call.reals[0], out<S>(call, 0));
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

// How the gradient g behind the clamp is found: no clamp; from the stored output; from x (recomputed as forward did).
enum GateKind { open, by_output, by_input };

// The mask of VL channels: what belongs to the channels is loaded once.
template <GateKind kind>
struct Gate {
    Vec mean, factor, beta;

    template <class G>
    FOVEA_INLINE void read(const G& group, int k, const float* saved, long width) {
        mean = group.get(saved + mean_of * width, k);
        factor = group.get(saved + factor_of * width, k);
        beta = group.get(saved + beta_of * width, k);
    }
    // `y`: the output, only with by_output.
    FOVEA_INLINE Vec masked(Vec dy, Vec x, Vec y, Vec high) const {
        if (kind == open) return dy;
        const Vec z = kind == by_output ? y : (x - mean) * factor + beta;
        const Vec below = z < high ? dy : Vec{};
        return z > 0.0f ? below : Vec{};
    }
};

// One call of batchnorm_backward.
template <class S>
struct Backward {
    const S *dy, *term, *x, *y;
    const float* saved;
    S *dx, *dskip;
    float* means;
    long width;
    float high;
};

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

// dx = factor (g - mean(g) - (x - mean) inv_std^2 mean(g (x - mean)))
template <GateKind kind, class S>
void gradient_rows(const Backward<S>& b, const S* dy, long begin, long end) {
    const long width = b.width;
    const Vec high = broadcast(b.high);
    over_blocks(begin, end, width, [&](const auto& group, long first, long last) {
        constexpr int count = Channels<decltype(group)>::count;
        Gate<kind> gate[count];
        Vec mean[count], slope[count];
        for (int k = 0; k < count; k++) {
            gate[k].read(group, k, b.saved, width);
            mean[k] = group.get(b.means, k);
            slope[k] = group.get(b.means + width, k);
        }
        for (long at = first * width; at < last * width; at += width) FOVEA_UNROLL
        for (int k = 0; k < count; k++) {
            const Vec x = group.get(b.x + at, k), y = kind == by_output ? group.get(b.y + at, k) : Vec{};
            const Vec g = gate[k].masked(group.get(dy + at, k), x, y, high);
            group.put(b.dx + at, k, (g - mean[k] - (x - gate[k].mean) * slope[k]) * gate[k].factor);
        }
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
    for (long c = 0; c < width; c++) {
        const double sum = sum_parts(parts + c, chunks, 2 * width);
        const double product = sum_parts(parts + width + c, chunks, 2 * width);
        const double inv_std = static_cast<double>(b.saved[inv_std_of * width + c]);
        if (dgamma) dgamma[c] = static_cast<float>(product * inv_std);
        if (dbeta) dbeta[c] = static_cast<float>(sum);
        b.means[c] = static_cast<float>(sum / static_cast<double>(rows));
        b.means[width + c] = static_cast<float>(product * inv_std * inv_std / static_cast<double>(rows));
    }
    if (!b.dx) return;
    over_rows(rows, width, [&](long begin, long end) {
        if (stores)
            gradient_rows<open>(b, b.dskip, begin, end);
        else
            gradient_rows<kind>(b, b.dy, begin, end);
    });
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
    {"batchnorm_inference", 8, 3, 2, batchnorm_inference<float>, nullptr, operands(0, 2, 7), batchnorm_inference<bf16>},
    {"batchnorm_inference_backward", 6, 3, 1, batchnorm_inference_backward<float>, nullptr, operands(0, 1, 2, 3, 4),
     batchnorm_inference_backward<bf16>},
    {"batchnorm_fold", 8, 2, 1, fold, fold_scratch},
};

}  // namespace

OpList norm_ops() { return op_list(list); }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
