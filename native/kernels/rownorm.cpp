// Normalisation within a sample (layer, group), local response normalisation, and layers with one weight per channel.
#include "kernels/families.h"
#include "kernels/op_tools.h"
#include "runtime/memory.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// Units of one sample, each positions x channels in groups of channels. Layer norm: every position is a unit with one
// position and one group. Group norm: the sample is the unit.
struct Units {
    long count, positions, channels, groups;
};

FOVEA_INLINE const Units& units(const OpCall& call) { return *reinterpret_cast<const Units*>(call.ints); }

// Sum of f(index in the unit, channel, mask) over one group, VL channels at a time; f gives 0 in masked lanes.
template <class F>
FOVEA_INLINE double group_sum(const Units& u, long group, const F& f) {
    const long width = u.channels / u.groups, first = group * width;
    double sum = 0;
    for (long p = 0; p < u.positions; p++) {
        Vec part = {};
        for (long c = 0; c < width; c += VL) part += f(p * u.channels + first + c, first + c, first_lanes(width - c));
        sum += static_cast<double>(sum_lanes(part));
    }
    return sum;
}

template <class F>
FOVEA_INLINE void over_group(const Units& u, long group, const F& f) {
    const long width = u.channels / u.groups, first = group * width;
    for (long p = 0; p < u.positions; p++)
        for (long c = 0; c < width; c += VL) f(p * u.channels + first + c, first + c, first_lanes(width - c));
}

// Lanes beyond the mask to 0: subtracting a mean makes them something else.
FOVEA_INLINE Vec only(Vec v, Mask mask) {
    alignas(FOVEA_VECTOR_BYTES) float lanes[VL] = {};
    store(lanes, v, mask);
    return load(lanes);
}

// y, saved (mean and 1/sigma of every group), x, gamma, beta; ints: Units; reals: eps.
void groupnorm(const OpCall& call) {
    const Units u = units(call);
    float *y = out(call, 0), *saved = out(call, 1);
    const float *x = in(call, 2), *gamma = in(call, 3), *beta = in(call, 4);
    const double eps = static_cast<double>(call.reals[0]);
    const double size = static_cast<double>(u.positions * (u.channels / u.groups));
    over_rows(call.n * u.count, u.positions * u.channels, [=](long begin, long end) {
        for (long unit = begin; unit < end; unit++)
            for (long group = 0; group < u.groups; group++) {
                const float* from = x + unit * u.positions * u.channels;
                float* to = y + unit * u.positions * u.channels;
                const double center =
                    group_sum(u, group, [=](long i, long, Mask m) { return load(from + i, m); }) / size;
                const float mean = static_cast<float>(center);
                const double scatter = group_sum(u, group, [=](long i, long, Mask m) {
                    const Vec d = only(load(from + i, m) - mean, m);
                    return d * d;
                });
                const float inv_std = static_cast<float>(1.0 / __builtin_sqrt(scatter / size + eps));
                over_group(u, group, [=](long i, long c, Mask m) {
                    store(to + i, (load(from + i, m) - mean) * inv_std * load(gamma + c, m) + load(beta + c, m), m);
                });
                saved[(unit * u.groups + group) * 2] = mean;
                saved[(unit * u.groups + group) * 2 + 1] = inv_std;
            }
    });
}

// dx, dy, x, gamma, saved; ints: Units.  With g = dy gamma, x^ = (x - mean) / sigma: dx = (g - mean(g) - x^ mean(g x^))
// / sigma
void groupnorm_backward(const OpCall& call) {
    const Units u = units(call);
    float* dx = out(call, 0);
    const float *dy = in(call, 1), *x = in(call, 2), *gamma = in(call, 3), *saved = in(call, 4);
    const double size = static_cast<double>(u.positions * (u.channels / u.groups));
    over_rows(call.n * u.count, u.positions * u.channels, [=](long begin, long end) {
        for (long unit = begin; unit < end; unit++)
            for (long group = 0; group < u.groups; group++) {
                const long first = unit * u.positions * u.channels;
                const float *from = x + first, *up = dy + first;
                const float mean = saved[(unit * u.groups + group) * 2],
                            inv_std = saved[(unit * u.groups + group) * 2 + 1];
                float* to =
                    dx + first;  // holds g first: rounded once, so that g - mean(g) is exactly 0 where it should be
                over_group(u, group,
                           [=](long i, long c, Mask m) { store(to + i, load(up + i, m) * load(gamma + c, m), m); });
                const double sum = group_sum(u, group, [=](long i, long, Mask m) { return load(to + i, m); });
                const double product = group_sum(u, group, [=](long i, long, Mask m) {
                    return load(to + i, m) * ((load(from + i, m) - mean) * inv_std);
                });
                const float a = static_cast<float>(sum / size), b = static_cast<float>(product / size);
                over_group(u, group, [=](long i, long, Mask m) {
                    const Vec normed = (load(from + i, m) - mean) * inv_std;
                    store(to + i, (load(to + i, m) - a - normed * b) * inv_std, m);
                });
            }
    });
}

size_t parameter_scratch(const OpCall& call) {
    const Units& u = units(call);
    return static_cast<size_t>(2 * u.channels * sum_chunks(call.n * u.count * u.positions, u.channels));
}

// dgamma, dbeta (each may be null), dy, x, saved; ints: Units.
void groupnorm_parameters(const OpCall& call) {
    const Units u = units(call);
    float *dgamma = out(call, 0), *dbeta = out(call, 1), *parts = call.scratch;
    const float *dy = in(call, 2), *x = in(call, 3), *saved = in(call, 4);
    const long count = call.n * u.count, chunks = sum_chunks(count * u.positions, u.channels);
    const long width = u.channels, per_group = width / u.groups;
    over_chunks(count, chunks, [=](long chunk, long begin, long end) {
        float* part = parts + chunk * 2 * width;
        for (long c = 0; c < 2 * width; c++) part[c] = 0;
        for (long unit = begin; unit < end; unit++)
            for (long p = 0; p < u.positions; p++)
                for (long c = 0; c < width; c++) {
                    const long at = (unit * u.positions + p) * width + c;
                    const float* s = saved + (unit * u.groups + c / per_group) * 2;
                    part[c] += dy[at] * ((x[at] - s[0]) * s[1]);
                    part[width + c] += dy[at];
                }
    });
    for (long c = 0; c < width; c++) {
        if (dgamma) dgamma[c] = static_cast<float>(sum_parts(parts + c, chunks, 2 * width));
        if (dbeta) dbeta[c] = static_cast<float>(sum_parts(parts + width + c, chunks, 2 * width));
    }
}

// ints of local response normalisation: rows of one sample, C, size; reals: alpha / size, beta, k.
// For one row: power[c] = (k + alpha / size sum of x^2 in the window)^-beta, and below[c] = that sum's value itself.
void lrn_row(const float* x, long width, long size, const float* reals, float* power, float* below) {
    for (long c = 0; c < width; c++) {
        float sum = 0;
        for (long i = max_of(0L, c - (size - 1) / 2); i <= min_of(width - 1, c + size / 2); i++) sum += x[i] * x[i];
        below[c] = reals[2] + reals[0] * sum;
        power[c] = __builtin_powf(below[c], -reals[1]);
    }
}

// y, x.
void lrn(const OpCall& call) {
    const long width = call.ints[1], size = call.ints[2];
    over_rows(call.n * call.ints[0], width, [=, &call](long begin, long end) {
        float *power = thread_scratch(static_cast<size_t>(2 * width)), *below = power + width;
        for (long row = begin; row < end; row++) {
            const float* x = in(call, 1) + row * width;
            lrn_row(x, width, size, call.reals, power, below);
            for (long c = 0; c < width; c++) out(call, 0)[row * width + c] = x[c] * power[c];
        }
    });
}

// dx, dy, x.  dx_c = dy_c power_c - 2 alpha beta / size x_c sum over windows with c of dy x power / below
void lrn_backward(const OpCall& call) {
    const long width = call.ints[1], size = call.ints[2];
    const float factor = 2.0f * call.reals[0] * call.reals[1];
    over_rows(call.n * call.ints[0], width, [=, &call](long begin, long end) {
        float *power = thread_scratch(static_cast<size_t>(2 * width)), *below = power + width;
        for (long row = begin; row < end; row++) {
            const float *dy = in(call, 1) + row * width, *x = in(call, 2) + row * width;
            float* dx = out(call, 0) + row * width;
            lrn_row(x, width, size, call.reals, power, below);
            for (long c = 0; c < width; c++) {
                float sum = 0;
                for (long i = max_of(0L, c - size / 2); i <= min_of(width - 1, c + (size - 1) / 2); i++)
                    sum += dy[i] * x[i] * power[i] / below[i];
                dx[c] = dy[c] * power[c] - factor * x[c] * sum;
            }
        }
    });
}

// Layers with one weight per channel: value, gradients of the input and of the weight at one element.
struct Slope {  // PReLU
    static FOVEA_INLINE Vec value(Vec x, Vec w) { return x > 0.0f ? x : x * w; }
    static FOVEA_INLINE Vec grad_x(Vec dy, Vec x, Vec w) { return x > 0.0f ? dy : dy * w; }
    static FOVEA_INLINE Vec grad_w(Vec dy, Vec x) { return x > 0.0f ? Vec{} : dy * x; }
};
struct Factor {  // LayerScale
    static FOVEA_INLINE Vec value(Vec x, Vec w) { return x * w; }
    static FOVEA_INLINE Vec grad_x(Vec dy, Vec, Vec w) { return dy * w; }
    static FOVEA_INLINE Vec grad_w(Vec dy, Vec x) { return dy * x; }
};

// y, x, weight; ints: rows of one sample, C.
template <class F, class S>
void channel(const OpCall& call) {
    const long width = call.ints[1];
    S* y = out<S>(call, 0);
    const S* x = in<S>(call, 1);
    const float* w = in(call, 2);
    over_rows(call.n * call.ints[0], width, [=](long begin, long end) {
        for (long at = begin * width; at < end * width; at += width)
            for (long c = 0; c < width; c += VL) {
                const Mask mask = first_lanes(width - c);
                store(y + at + c, F::value(load(x + at + c, mask), load(w + c, mask)), mask);
            }
    });
}

size_t channel_scratch(const OpCall& call) {
    return static_cast<size_t>(call.ints[1] * sum_chunks(call.n * call.ints[0], call.ints[1]));
}

// dx, dweight (each may be null), dy, x, weight; ints as channel.
template <class F, class S>
void channel_backward(const OpCall& call) {
    const long width = call.ints[1], rows = call.n * call.ints[0], chunks = sum_chunks(rows, width);
    S* dx = out<S>(call, 0);
    float *dw = out(call, 1), *parts = call.scratch;
    const S *dy = in<S>(call, 2), *x = in<S>(call, 3);
    const float* w = in(call, 4);
    over_chunks(rows, chunks, [=](long chunk, long begin, long end) {
        for (long c = 0; c < width; c += VL) {
            const Mask mask = first_lanes(width - c);
            Vec sum = {};
            for (long at = begin * width + c; at < end * width; at += width) {
                const Vec up = load(dy + at, mask), from = load(x + at, mask);
                if (dx) store(dx + at, F::grad_x(up, from, load(w + c, mask)), mask);
                sum += F::grad_w(up, from);
            }
            store(parts + chunk * width + c, sum, mask);
        }
    });
    for (long c = 0; dw && c < width; c++) dw[c] = static_cast<float>(sum_parts(parts + c, chunks, width));
}

const OpKernel list[] = {
    {"groupnorm", 5, 4, 1, groupnorm, nullptr},
    {"groupnorm_backward", 5, 4, 0, groupnorm_backward, nullptr},
    {"groupnorm_parameters", 5, 4, 0, groupnorm_parameters, parameter_scratch},
    {"lrn", 2, 3, 3, lrn, nullptr},
    {"lrn_backward", 3, 3, 3, lrn_backward, nullptr},
    {"prelu", 3, 2, 0, channel<Slope, float>, nullptr, operands(0, 1), channel<Slope, bf16>},
    {"prelu_backward", 5, 2, 0, channel_backward<Slope, float>, channel_scratch, operands(0, 2, 3),
     channel_backward<Slope, bf16>},
    {"layerscale", 3, 2, 0, channel<Factor, float>, nullptr, operands(0, 1), channel<Factor, bf16>},
    {"layerscale_backward", 5, 2, 0, channel_backward<Factor, float>, channel_scratch, operands(0, 2, 3),
     channel_backward<Factor, bf16>},
};

}  // namespace

OpList rownorm_ops() { return op_list(list); }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
