// The update of all parameters in one pass: clip, rule, moving average (fovea/ops/optimizer.py has the formulas).
#include "kernels/families.h"
#include "kernels/op_tools.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// Run-time numbers of an update, written by the plan: one array of doubles.
struct Numbers {
    double lr, first_correction, second_correction, ema_decay, norm, scale;
};

FOVEA_INLINE Numbers& numbers(const OpCall& call, int i) { return *static_cast<Numbers*>(call.operand[i]); }

constexpr long norm_grain = 1 << 14;

size_t norm_scratch(const OpCall& call) { return static_cast<size_t>(2 * ceil_div(call.ints[0], norm_grain)); }

// numbers, gradients; ints: floats of all gradients; reals: clip_norm (0: none).
void grad_norm(const OpCall& call) {
    const float* g = in(call, 1);
    double* parts = reinterpret_cast<double*>(call.scratch);
    over_range(call.ints[0], norm_grain, [=](long begin, long end) {
        Vec sum[4] = {};
        long i = begin;
        for (; i + 4 * VL <= end; i += 4 * VL) FOVEA_UNROLL
        for (int k = 0; k < 4; k++) {
            const Vec v = load(g + i + k * VL);
            sum[k] += v * v;
        }
        for (; i < end; i += VL) {
            const Vec v = load(g + i, first_lanes(end - i));
            sum[0] += v * v;
        }
        parts[begin / norm_grain] = static_cast<double>(sum_lanes((sum[0] + sum[1]) + (sum[2] + sum[3])));
    });
    double sum = 0;
    for (long piece = 0; piece < ceil_div(call.ints[0], norm_grain); piece++) sum += parts[piece];
    Numbers& values = numbers(call, 0);
    values.norm = __builtin_sqrt(sum);
    const double clip = static_cast<double>(call.reals[0]);
    values.scale = clip > 0 && values.norm > clip ? clip / values.norm : 1.0;
}

// One piece of one parameter. Operands of an update: numbers, gradients, then per parameter: itself, its state arrays,
// its moving average (null without one). ints: parameters, state arrays, pieces, then per piece: parameter, first
// float, behind the last float, first float in the gradients. reals: the rule's, then per parameter: lr factor, decay.
struct Piece {
    float *p, *state[2], *average;
    const float* g;
    long count;
    float lr, decay, scale, ema;
};

constexpr int rule_reals = 3, head_ints = 3, piece_ints = 4;

FOVEA_INLINE Piece piece_of(const OpCall& call, long number) {
    const long* ints = call.ints + head_ints + number * piece_ints;
    const long slots = call.ints[1], parameter = ints[0], first = ints[1];
    const float* own = call.reals + rule_reals + 2 * parameter;
    const Numbers& values = numbers(call, 0);
    float* const* base = reinterpret_cast<float* const*>(call.operand) + 2 + parameter * (slots + 2);
    Piece piece{};
    piece.p = base[0] + first;
    for (long slot = 0; slot < slots; slot++) piece.state[slot] = base[1 + slot] + first;
    piece.average = base[1 + slots] ? base[1 + slots] + first : nullptr;
    piece.g = in(call, 1) + ints[3];
    piece.count = ints[2] - first;
    piece.lr = static_cast<float>(values.lr * static_cast<double>(own[0]));
    piece.decay = own[1];
    piece.scale = static_cast<float>(values.scale);
    piece.ema = static_cast<float>(values.ema_decay);
    return piece;
}

template <class Rule>
FOVEA_INLINE void over_parameters(const OpCall& call, const Rule& rule) {
    parallel(call.ints[2], [&](long number) {
        const Piece piece = piece_of(call, number);
        for (long i = 0; i < piece.count; i += VL) {
            const Mask mask = first_lanes(piece.count - i);
            const Vec p = rule(piece, i, mask, load(piece.p + i, mask), load(piece.g + i, mask) * piece.scale);
            store(piece.p + i, p, mask);
            if (!piece.average) continue;
            const Vec average = load(piece.average + i, mask);
            store(piece.average + i, average * piece.ema + p * (1.0f - piece.ema), mask);
        }
    });
}

// reals: momentum, whether Nesterov.
void sgd(const OpCall& call) {
    const float momentum = call.reals[0];
    const bool nesterov = call.reals[1] != 0.0f;
    over_parameters(call, [=](const Piece& piece, long i, Mask mask, Vec p, Vec scaled) {
        const Vec g = scaled + p * piece.decay;
        const Vec v = load(piece.state[0] + i, mask) * momentum + g;
        store(piece.state[0] + i, v, mask);
        return p - (nesterov ? g + v * momentum : v) * piece.lr;
    });
}

FOVEA_INLINE Vec vsqrt(Vec x) {
    Vec y;
    for (int i = 0; i < VL; i++) y[i] = __builtin_sqrtf(x[i]);
    return y;
}

// reals: beta1, beta2, eps.
void adamw(const OpCall& call) {
    const float beta1 = call.reals[0], beta2 = call.reals[1], eps = call.reals[2];
    const Numbers& values = numbers(call, 0);
    const float first = static_cast<float>(1.0 / values.first_correction);
    const float second = static_cast<float>(1.0 / values.second_correction);
    over_parameters(call, [=](const Piece& piece, long i, Mask mask, Vec p, Vec g) {
        const Vec m = load(piece.state[0] + i, mask) * beta1 + g * (1.0f - beta1);
        const Vec v = load(piece.state[1] + i, mask) * beta2 + g * g * (1.0f - beta2);
        store(piece.state[0] + i, m, mask);
        store(piece.state[1] + i, v, mask);
        return p - p * (piece.lr * piece.decay) - m * (first * piece.lr) / (vsqrt(v * second) + eps);
    });
}

// sum, addend; ints: floats.  sum += addend: gradients of several backward passes.
void accumulate(const OpCall& call) {
    float* sum = out(call, 0);
    const float* addend = in(call, 1);
    over_range(call.ints[0], piece_floats, [=](long begin, long end) {
        for (long i = begin; i < end; i++) sum[i] += addend[i];
    });
}

const OpKernel list[] = {
    {"grad_norm", 2, 1, 1, grad_norm, norm_scratch},
    {"sgd", -1, -1, -1, sgd, nullptr},
    {"adamw", -1, -1, -1, adamw, nullptr},
    {"accumulate", 2, 1, 0, accumulate, nullptr},
};

}  // namespace

OpList optimizer_ops() { return op_list(list); }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
