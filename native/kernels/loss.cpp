// Losses. Values are float32; sums run in double over chunks, in their order. A loss is one float.
#include "kernels/families.h"
#include "kernels/op_tools.h"
#include "kernels/vmath.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// Rows of one piece: a small batch is one piece.
FOVEA_INLINE long row_grain(const OpCall& call) { return max_of(64L, piece_floats / max_of(1L, call.ints[1])); }

FOVEA_INLINE double* doubles(const OpCall& call) { return reinterpret_cast<double*>(call.scratch); }
size_t row_scratch(const OpCall& call) {
    return static_cast<size_t>(4 * ceil_div(call.n * call.ints[0], row_grain(call)));
}

// log(sum(exp(x))) of one row, as its maximum and the rest: their sum would round away digits of the rest.
struct LogSum {
    float largest, rest;

    FOVEA_INLINE float minus(float x) const { return (largest - x) + rest; }
};

LogSum log_sum_exp(const float* x, long width) {
    float largest = x[0];
    for (long c = 1; c < width; c++) largest = x[c] > largest || x[c] != x[c] ? x[c] : largest;
    Vec sum = {};
    for (long c = 0; c < width; c += VL) {
        const Vec e = vexp(load(x + c, first_lanes(width - c)) - largest);
        const long lanes = width - c;
        if (lanes >= VL) {
            sum += e;
        } else {
            for (long i = 0; i < lanes; i++) sum[i] += e[i];
        }
    }
    return {largest, static_cast<float>(__builtin_log(static_cast<double>(sum_lanes(sum))))};
}

// Target probability of class c in one row, smoothed. Integer targets are `label`, probabilities are in `soft`.
struct Target {
    const float* soft;
    long label;
    float keep, share;  // t' = keep t + share

    FOVEA_INLINE float at(long c) const { return keep * (soft ? soft[c] : c == label ? 1.0f : 0.0f) + share; }
};

struct Rows {
    long width;
    const int64_t* labels;  // one of the two is null
    const float* soft;
    const float* weights;  // one per class, may be null
    float smoothing;

    FOVEA_INLINE Target target(long row) const {
        const float share = smoothing / static_cast<float>(width);
        return {soft ? soft + row * width : nullptr, labels ? static_cast<long>(labels[row]) : 0, 1.0f - smoothing,
                share};
    }
    // A negative label says so; one beyond the classes is refused before it comes here, unless it was computed.
    FOVEA_INLINE bool ignored(long row) const { return labels && (labels[row] < 0 || labels[row] >= width); }

    // What the row counts in the denominator; 0 for an ignored row.
    FOVEA_INLINE float weight(long row, const Target& t) const {
        if (ignored(row)) return 0.0f;
        if (!weights) return 1.0f;
        if (labels) return weights[labels[row]];
        float sum = 0;
        for (long c = 0; c < width; c++) sum += t.soft[c] * weights[c];
        return sum;
    }
};

FOVEA_INLINE Rows rows_of(const OpCall& call, const void* target, const float* weights) {
    const bool soft = call.ints[2] != 0;
    return {call.ints[1], soft ? nullptr : static_cast<const int64_t*>(target),
            soft ? static_cast<const float*>(target) : nullptr, weights, call.reals[0]};
}

// loss, saved (LogSum of every row, then the sum of weights and the loss), logits, target, class weights (may be
// null); ints: rows of one sample, C, whether targets are probabilities, capacity in rows; reals: label_smoothing.
void softmax_cross_entropy(const OpCall& call) {
    float *loss = out(call, 0), *saved = out(call, 1);
    const float* logits = in(call, 2);
    const Rows data = rows_of(call, call.operand[3], in(call, 4));
    const long rows = call.n * call.ints[0], width = data.width, grain = row_grain(call),
               pieces = ceil_div(rows, grain);
    double* parts = doubles(call);
    LogSum* rows_saved = reinterpret_cast<LogSum*>(saved);
    over_range(rows, grain, [=](long begin, long end) {
        double sum = 0, count = 0;
        for (long row = begin; row < end; row++) {
            const Target t = data.target(row);
            const float* x = logits + row * width;
            const LogSum lse = log_sum_exp(x, width);
            rows_saved[row] = lse;
            const float weight = data.weight(row, t);
            if (data.ignored(row)) continue;
            count += static_cast<double>(weight);
            for (long c = 0; c < width; c++) {
                const float p = t.at(c) * (data.weights ? data.weights[c] : 1.0f);
                if (p != 0.0f) sum += static_cast<double>(p) * static_cast<double>(lse.minus(x[c]));
            }
        }
        parts[begin / grain * 2] = sum;
        parts[begin / grain * 2 + 1] = count;
    });
    double sum = 0, count = 0;
    for (long piece = 0; piece < pieces; piece++) {
        sum += parts[piece * 2];
        count += parts[piece * 2 + 1];
    }
    *loss = static_cast<float>(count > 0 ? sum / count : 0.0);
    saved[2 * call.ints[3]] = static_cast<float>(count);
    saved[2 * call.ints[3] + 1] = *loss;
}

// Gradient of one row's soft targets: (-(1 - s) w_c log p_c - loss w_c) / sum of weights; the last term only with
// weights.
void grad_targets(const Rows& data, const float* x, LogSum lse, float loss, float factor, float* to) {
    for (long c = 0; c < data.width; c++) {
        const float weight = data.weights ? data.weights[c] : 1.0f;
        const float through_weight = data.weights ? loss * weight : 0.0f;
        to[c] = factor * ((1.0f - data.smoothing) * weight * lse.minus(x[c]) - through_weight);
    }
}

// dlogits, dtargets (each may be null), grad_loss (one float), saved, logits, target, class weights; ints and reals as
// above. With u_c = t'_c w_c:  dlogits_c = (softmax_c sum(u) - u_c) / sum of weights.
void softmax_cross_entropy_backward(const OpCall& call) {
    float *dx = out(call, 0), *dt = out(call, 1);
    const float *saved = in(call, 3), *logits = in(call, 4);
    const Rows data = rows_of(call, call.operand[5], in(call, 6));
    const float count = saved[2 * call.ints[3]], loss = saved[2 * call.ints[3] + 1];
    const float factor = count > 0 ? *in(call, 2) / count : 0.0f;
    const LogSum* rows_saved = reinterpret_cast<const LogSum*>(saved);
    const long width = data.width;
    over_range(call.n * call.ints[0], row_grain(call), [=](long begin, long end) {
        for (long row = begin; row < end; row++) {
            const Target t = data.target(row);
            const float *x = logits + row * width, *weights = data.weights;
            if (dt) grad_targets(data, x, rows_saved[row], loss, factor, dt + row * width);
            if (!dx) continue;
            const LogSum lse = rows_saved[row];
            float* to = dx + row * width;
            const float scale = data.ignored(row) ? 0.0f : factor;
            float total = 0;
            for (long c = 0; c < width; c++) total += t.at(c) * (weights ? weights[c] : 1.0f);
            for (long c = 0; c < width; c += VL) {
                const Mask mask = first_lanes(width - c);
                store(to + c, vexp((load(x + c, mask) - lse.largest) - lse.rest) * (total * scale), mask);
            }
            for (long c = 0; c < width; c++) to[c] -= t.at(c) * (weights ? weights[c] : 1.0f) * scale;
        }
    });
}

// loss, values (one per sample).  loss = mean
void batch_mean(const OpCall& call) {
    double sum = 0;
    for (long i = 0; i < call.n; i++) sum += static_cast<double>(in(call, 1)[i]);
    *out(call, 0) = static_cast<float>(sum / static_cast<double>(call.n));
}

// dvalues, grad_loss.
void batch_mean_backward(const OpCall& call) {
    for (long i = 0; i < call.n; i++) out(call, 0)[i] = *in(call, 1) / static_cast<float>(call.n);
}

const OpKernel list[] = {
    {"batch_mean", 2, 0, 0, batch_mean, nullptr},
    {"batch_mean_backward", 2, 0, 0, batch_mean_backward, nullptr},
    {"softmaxcrossentropy", 5, 4, 1, softmax_cross_entropy, row_scratch},
    {"softmaxcrossentropy_backward", 7, 4, 1, softmax_cross_entropy_backward, nullptr},
};

}  // namespace

OpList loss_ops() { return op_list(list); }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
