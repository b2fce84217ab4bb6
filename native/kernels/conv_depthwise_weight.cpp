#include "kernels/conv_depthwise.h"
#include "kernels/conv_depthwise3.h"
#include "kernels/conv_weight.h"
#include "kernels/tap_conv.h"
#include "runtime/pool.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// Up to nine taps at a time: as many sums in registers, which also hides the latency of the additions.
constexpr int chunk_taps = 9;

template <class S>
struct Chunk {
    const S* x[chunk_taps];  // of output 0
    float* out[chunk_taps];
    int begin[chunk_taps], end[chunk_taps];  // outputs whose input lies inside
    int all_begin, all_end;                  // of every tap
    const S* dy;
    long x_step;
    int channels;
};

template <int T, class S>
void add_chunk(const Chunk<S>& c) {
    for (int channel = 0; channel < c.channels; channel += VL) {
        const Mask mask = first_lanes(c.channels - channel);
        Vec acc[T];
        const S* x[T];
        FOVEA_UNROLL
        for (int t = 0; t < T; t++) {
            acc[t] = load(c.out[t] + channel, mask);
            x[t] = c.x[t] + channel;
        }
        const S* dy = c.dy + channel;
        for (int i = c.all_begin; i < c.all_end; i++) {
            const Vec g = load(dy + static_cast<long>(i) * c.channels, mask);
            FOVEA_UNROLL
            for (int t = 0; t < T; t++) acc[t] += g * load(x[t] + i * c.x_step, mask);
        }
        FOVEA_UNROLL
        for (int t = 0; t < T; t++) {
            const auto add = [&](int from, int to) {
                for (int i = from; i < to; i++)
                    acc[t] += load(dy + static_cast<long>(i) * c.channels, mask) * load(x[t] + i * c.x_step, mask);
            };
            add(c.begin[t], min_of(c.all_begin, c.end[t]));
            add(max_of(c.all_end, c.begin[t]), c.end[t]);
            store(c.out[t] + channel, acc[t], mask);
        }
    }
}

template <class S>
void add_chunk(int taps, const Chunk<S>& c) {
    static constexpr void (*list[])(const Chunk<S>&) = {add_chunk<1, S>, add_chunk<2, S>, add_chunk<3, S>,
                                                        add_chunk<4, S>, add_chunk<5, S>, add_chunk<6, S>,
                                                        add_chunk<7, S>, add_chunk<8, S>, add_chunk<9, S>};
    list[taps - 1](c);
}

// Adds what one row of grad_output contributes to all taps.
template <class S>
void add_row(const ConvShape& s, const S* image, const S* dy, int z, int y, float* out) {
    const int at[2] = {z, y};
    Chunk<S> c;
    c.dy = dy;
    c.channels = s.cin;
    c.x_step = static_cast<long>(s.stride[2]) * s.cin;
    c.all_begin = 0;
    c.all_end = s.out[2];
    int count = 0;
    for (int tap = 0; tap < s.taps(); tap++) {
        const int m[3] = {tap / s.kernel[2] / s.kernel[1], tap / s.kernel[2] % s.kernel[1], tap % s.kernel[2]};
        long row = 0;
        bool inside = true;
        for (int i = 0; i < 2; i++) {
            const long q =
                static_cast<long>(at[i]) * s.stride[i] + static_cast<long>(m[i]) * s.dilation[i] - s.pad_lo[i];
            inside = inside && q >= 0 && q < s.in[i];
            row = row * s.in[i] + q;
        }
        const Span span = valid_span(s, 2, m[2], 0, s.out[2]);
        if (inside && span.begin < span.end) {
            c.x[count] = image + (row * s.in[2] + static_cast<long>(m[2]) * s.dilation[2] - s.pad_lo[2]) * s.cin;
            c.out[count] = out + static_cast<long>(tap) * s.cin;
            c.begin[count] = span.begin;
            c.end[count++] = span.end;
            c.all_begin = max_of(c.all_begin, span.begin);
            c.all_end = max_of(c.all_begin, min_of(c.all_end, span.end));
        }
        if (count == chunk_taps || (count > 0 && tap + 1 == s.taps())) {
            add_chunk(count, c);
            count = c.all_begin = 0;
            c.all_end = s.out[2];
        }
    }
}

// The same for a 3x3.
template <class S>
void add_row3(const ConvShape& s, const S* image, const S* dy, int y, float* out) {
    const long row_floats = static_cast<long>(s.in[2]) * s.cin;
    DepthwiseRowOf<S> r{{},         s.cin, s.stride[2], s.in[2], s.out[2], s.pad_lo[2], nullptr,
                        3L * s.cin, s.cin, nullptr,     nullptr, dy,       out};
    find_rows(y, s.stride[1], s.pad_lo[1], s.in[1], [=](int i) { return image + i * row_floats; }, r.rows);
    depthwise3_weight_row(r);
}

long sum_count(const ConvShape& s, int n) {
    const long rows = static_cast<long>(n) * s.out[0] * s.out[1];
    const long affordable = max_of(1L, (2L << 20) / s.weight_floats());
    return max_of(1L, min_of(min_of(rows / 16, piece_count(4 * s.macs(n))), min_of(64L, affordable)));
}

}  // namespace

void plan_conv_depthwise(ConvPlan& plan) {
    plan.algorithm = ConvAlgorithm::depthwise;
    plan.packed_floats = 0;
    plan.scratch_floats = 0;
    if (plan.pass == ConvPass::backward_weight)
        plan.scratch_floats = static_cast<size_t>(sum_count(plan.shape, plan.batch) * plan.shape.weight_floats());
}

template <class S>
void run_depthwise_weight(const ConvPlan& plan, int n, const S* input, const S* grad_output, float* grad_weight,
                          float* scratch) {
    const ConvShape& s = plan.shape;
    const bool rows_of_three = depthwise3_applies(s, plan.pass);
    const long sums = sum_count(s, n), weights = s.weight_floats(), rows = static_cast<long>(n) * s.out[0] * s.out[1];
    parallel(sums, [&](long sum) {
        float* out = sums > 1 ? scratch + sum * weights : grad_weight;
        for (long i = 0; i < weights; i++) out[i] = 0;
        for (long row = rows * sum / sums; row < rows * (sum + 1) / sums; row++) {
            const int y = static_cast<int>(row % s.out[1]), z = static_cast<int>(row / s.out[1] % s.out[0]);
            const long image = row / s.out[1] / s.out[0];
            const S *x = input + image * s.in_pixels() * s.cin, *dy = grad_output + row * s.out[2] * s.cout;
            if (rows_of_three)
                add_row3(s, x, dy, y, out);
            else
                add_row(s, x, dy, z, y, out);
        }
    });
    if (sums > 1) add_partial_sums(scratch, weights, sums, grad_weight);
}

template void run_depthwise_weight<float>(const ConvPlan&, int, const float*, const float*, float*, float*);
template void run_depthwise_weight<bf16>(const ConvPlan&, int, const bf16*, const bf16*, float*, float*);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
