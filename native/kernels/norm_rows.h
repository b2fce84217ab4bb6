// What batch norm does with rows x channels, for kernels that do it while they have the rows at hand.
#pragma once
#include "kernels/op_tools.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

// What forward leaves for backward, C floats each.
enum Saved { mean_of, inv_std_of, factor_of, beta_of, saved_rows };

// Neighbouring vectors of channels that are worked on together: what belongs to the channels stays in registers over
// many rows, and every row is still read in long runs.
template <int vectors, bool whole>
struct Group {
    static constexpr int count = vectors;
    long first;
    Mask mask;  // of the last vector

    FOVEA_INLINE Group(long c, long width) : first(c), mask(first_lanes(width - at(vectors - 1))) {}
    FOVEA_INLINE long at(int k) const { return first + static_cast<long>(k) * VL; }
    template <class S>
    FOVEA_INLINE Vec get(const S* p, int k) const {
        return whole || k < vectors - 1 ? load(p + at(k)) : load(p + at(k), mask);
    }
    template <class S>
    FOVEA_INLINE void fetch(const S* p, int k) const {
        __builtin_prefetch(p + at(k), 0, 2);
    }
    template <class S>
    FOVEA_INLINE void put(S* p, int k, Vec v) const {
        if (whole || k < vectors - 1)
            store(p + at(k), v);
        else
            store(p + at(k), v, mask);
    }
};

// The group's count inside of a generic lambda.
template <class G>
struct Channels;
template <int vectors, bool whole>
struct Channels<const Group<vectors, whole>&> {
    static constexpr int count = vectors;
};

static FOVEA_INLINE long rows_of_block(long width) { return max_of(8L, 4096 / width); }

// body(group, first row, behind the last row) over blocks of rows that stay in the first cache. A block is read in runs
// of some vectors, which hardware follows badly: who reads from memory fetches the next block meanwhile.
template <class Body>
FOVEA_INLINE void over_blocks(long begin, long end, long width, const Body& body) {
    const long rows = rows_of_block(width);
    for (long first = begin; first < end; first += rows) {
        const long last = min_of(first + rows, end);
        for (long c = 0; c < width;) {
            const long left = (width - c) / VL;
            if (left >= 4)
                body(Group<4, true>(c, width), first, last);
            else if (left >= 2)
                body(Group<2, true>(c, width), first, last);
            else if (left == 1)
                body(Group<1, true>(c, width), first, last);
            else
                body(Group<1, false>(c, width), first, last);
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

// For one chunk of rows and its first row as pivot p: p, sum(x - p), sum((x - p)^2). The pivot keeps the difference of
// large sums small when the mean is far from 0.
constexpr int moment_rows = 3;

template <class S>
void start_moments(const S* x, long width, float* part) {
    for (long c = 0; c < width; c += VL) store(part + c, load(x + c, first_lanes(width - c)), first_lanes(width - c));
    for (long c = width; c < moment_rows * width; c++) part[c] = 0;
}

template <class S>
void add_moments(const S* x, long rows, long width, float* part) {
    over_blocks(0, rows, width, [=](const auto& group, long first, long last) {
        add_sums(group, first, last, part + width, width, [=, &group](long row, int k, Vec& s, Vec& q) {
            const Vec d = group.get(x + row * width, k) - group.get(part, k);
            s += d;
            q += d * d;
        });
    });
}

// Mean and biased variance of one channel from the chunks (Chan et al. 1983, equation 2.1), in order, in double.
// rows_of(chunk): how many rows it has.
template <class RowsOf>
void combine_moments(const float* parts, long chunks, long width, long c, const RowsOf& rows_of, double* mean,
                     double* variance) {
    double total = 0, center = 0, scatter = 0;
    for (long chunk = 0; chunk < chunks; chunk++) {
        const double count = static_cast<double>(rows_of(chunk));
        const float* part = parts + chunk * moment_rows * width + c;
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

// Channels of one piece of what is done once per channel with sums of `chunks` chunks.
static FOVEA_INLINE long channels_at_once(long chunks) { return max_of(16L, 2048 / chunks); }

struct Statistics {
    float *saved, *running_mean, *running_var;
    const float *gamma, *beta;
    double eps, momentum;
};

// Of the batch norm behind a convolution that normalises what it reads: outputs 1 to 3, inputs 8 and 9, reals 2 and 3.
inline Statistics statistics_behind(const OpCall& call) {
    return {out(call, 1),
            out(call, 2),
            out(call, 3),
            in(call, 8),
            in(call, 9),
            static_cast<double>(call.reals[2]),
            static_cast<double>(call.reals[3])};
}

// What forward leaves for backward, and the running statistics, from the moments of all chunks; rows: of all.
template <class RowsOf>
void finish_statistics(const Statistics& s, const float* parts, long chunks, long rows, long width,
                       const RowsOf& rows_of) {
    const double unbias = rows > 1 ? static_cast<double>(rows) / static_cast<double>(rows - 1) : 1.0;
    over_range(width, channels_at_once(chunks), [&](long begin, long end) {
        for (long c = begin; c < end; c++) {
            double mean, variance;
            combine_moments(parts, chunks, width, c, rows_of, &mean, &variance);
            const double inv_std = 1.0 / __builtin_sqrt(variance + s.eps);
            s.saved[mean_of * width + c] = static_cast<float>(mean);
            s.saved[inv_std_of * width + c] = static_cast<float>(inv_std);
            s.saved[factor_of * width + c] = static_cast<float>(inv_std * static_cast<double>(s.gamma[c]));
            s.saved[beta_of * width + c] = s.beta[c];
            const double old_mean = static_cast<double>(s.running_mean[c]);
            const double old_var = static_cast<double>(s.running_var[c]);
            s.running_mean[c] = static_cast<float>((1.0 - s.momentum) * old_mean + s.momentum * mean);
            s.running_var[c] = static_cast<float>((1.0 - s.momentum) * old_var + s.momentum * variance * unbias);
        }
    });
}

// Sums over the chunks of g and of g (x - mean), which part[chunk] holds behind each other: the gradients of gamma and
// beta (each may be null), and what gradient_rows subtracts: mean(g), then inv_std^2 mean(g (x - mean)).
static inline void finish_gradients(const float* saved, const float* parts, long chunks, long stride, long rows,
                                    long width, float* dgamma, float* dbeta, float* means) {
    over_range(width, channels_at_once(chunks), [=](long begin, long end) {
        for (long c = begin; c < end; c++) {
            const double sum = sum_parts(parts + c, chunks, stride);
            const double product = sum_parts(parts + width + c, chunks, stride);
            const double inv_std = static_cast<double>(saved[inv_std_of * width + c]);
            if (dgamma) dgamma[c] = static_cast<float>(product * inv_std);
            if (dbeta) dbeta[c] = static_cast<float>(sum);
            means[c] = static_cast<float>(sum / static_cast<double>(rows));
            means[width + c] = static_cast<float>(product * inv_std * inv_std / static_cast<double>(rows));
        }
    });
}

template <bool residual, class S>
void apply_rows(const S* x, const S* skip, const float* saved, long begin, long end, long width, float low, float high,
                S* y) {
    const Vec lowest = broadcast(low), highest = broadcast(high);
    const long ahead = rows_of_block(width) * width;
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
            group.fetch(x + at + ahead, k);
            Vec z = (group.get(x + at, k) - mean[k]) * factor[k] + beta[k];
            if (residual) z += group.get(skip + at, k);
            group.put(y + at, k, at_most(at_least(z, lowest), highest));
        }
    });
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

// g = mask(g) in its place, where y in (0, top) lets it through; sums of g and g (x - mean) are added to `sums`.
template <GateKind kind, class S>
void mask_and_sum(const S* x, const S* y, const float* saved, float top, long pixels, long width, S* g, float* sums) {
    const Vec high = broadcast(top);
    over_blocks(0, pixels, width, [&](const auto& group, long first, long last) {
        Gate<kind> gate[Channels<decltype(group)>::count];
        FOVEA_UNROLL
        for (int k = 0; k < group.count; k++) gate[k].read(group, k, saved, width);
        add_sums(group, first, last, sums, width, [&](long row, int k, Vec& sum, Vec& product) {
            const long at = row * width;
            const Vec xi = group.get(x + at, k), yi = kind == by_output ? group.get(y + at, k) : Vec{};
            const Vec v = gate[k].masked(group.get(g + at, k), xi, yi, high);
            group.put(g + at, k, v);
            sum += v;
            product += v * (xi - gate[k].mean);
        });
    });
}

// What the backward passes of a batch norm read and write.
template <class S>
struct Backward {
    const S *dy, *term, *x, *y;
    const float* saved;
    S *dx, *dskip;
    float* means;
    long width;
    float high;
};

// dx = factor (g - mean(g) - (x - mean) inv_std^2 mean(g (x - mean)))
template <GateKind kind, class S>
void gradient_rows(const Backward<S>& b, const S* dy, long begin, long end) {
    const long width = b.width, ahead = rows_of_block(width) * width;
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
            group.fetch(dy + at + ahead, k);
            group.fetch(b.x + at + ahead, k);
            const Vec g = gate[k].masked(group.get(dy + at, k), x, y, high);
            group.put(b.dx + at, k, (g - mean[k] - (x - gate[k].mean) * slope[k]) * gate[k].factor);
        }
    });
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
