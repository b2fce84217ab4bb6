#include "kernels/conv_depthwise.h"

#include "kernels/conv_depthwise3.h"
#include "kernels/tap_conv.h"
#include "runtime/pool.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// The taps that one row of outputs meets: input of output 0 (perhaps outside, by `offset` pixels), weight.
template <class S>
struct RowTaps {
    int count = 0;
    const S* in[max_taps];
    const float* weight[max_taps];
    int offset[max_taps];
    int begin, end;  // outputs for which every tap lies inside
};

template <class S>
struct Row {
    const TapConv* c;
    long in_step;  // floats between the inputs of neighbouring outputs
    S* out;
    const Epilogue* epilogue;
    int channels;
};

// P neighbouring outputs, all channels: each weight vector is loaded once for P pixels.
template <int P, class S>
void pixels(const Row<S>& r, const RowTaps<S>& taps, int x) {
    const long first = x * r.in_step, out_step = r.c->out_stride[2];
    S* out = r.out + x * out_step;
    const Epilogue& e = *r.epilogue;
    for (int channel = 0; channel < r.channels; channel += VL) {
        const Mask mask = first_lanes(r.channels - channel);
        const Vec start = e.bias ? load(e.bias + channel, mask) : Vec{};
        Vec acc[P];
        FOVEA_UNROLL
        for (int i = 0; i < P; i++) acc[i] = start;
        for (int t = 0; t < taps.count; t++) {
            const Vec weight = load(taps.weight[t] + channel, mask);
            const S* in = taps.in[t] + first + channel;
            FOVEA_UNROLL
            for (int i = 0; i < P; i++) acc[i] += load(in + i * r.in_step, mask) * weight;
        }
        if (e.clamp) {
            const Vec low = broadcast(e.low), high = broadcast(e.high);
            FOVEA_UNROLL
            for (int i = 0; i < P; i++) acc[i] = at_most(at_least(acc[i], low), high);
        }
        FOVEA_UNROLL
        for (int i = 0; i < P; i++) store(out + i * out_step + channel, acc[i], mask);
    }
}

// An output at the border: the taps that lie inside.
template <class S>
void border_pixel(const Row<S>& r, const RowTaps<S>& all, int x, RowTaps<S>& inside) {
    inside.count = 0;
    for (int t = 0; t < all.count; t++) {
        const long at = static_cast<long>(x) * r.c->step[2] + all.offset[t];
        if (at < 0 || at >= r.c->in[2]) continue;
        inside.in[inside.count] = all.in[t];
        inside.weight[inside.count++] = all.weight[t];
    }
    pixels<1>(r, inside, x);
}

template <class S>
void run_row(const Row<S>& r, const RowTaps<S>& taps, RowTaps<S>& spare) {
    const int end = r.c->positions[2];
    int x = 0;
    for (; x < taps.begin; x++) border_pixel(r, taps, x, spare);
    for (; x + 8 <= taps.end; x += 8) pixels<8>(r, taps, x);
    for (; x + 4 <= taps.end; x += 4) pixels<4>(r, taps, x);
    for (; x < taps.end; x++) pixels<1>(r, taps, x);
    for (; x < end; x++) border_pixel(r, taps, x, spare);
}

template <class S>
void find_row_taps(const TapConv& c, const S* image, const float* weight, long z, long y, RowTaps<S>& taps) {
    taps.count = 0;
    long begin = 0, end = c.positions[2];
    for (int t = 0; t < c.tap_count; t++) {
        const Tap& tap = c.taps[t];
        const long iz = z * c.step[0] + tap.offset[0], iy = y * c.step[1] + tap.offset[1], ix = tap.offset[2];
        if (iz < 0 || iz >= c.in[0] || iy < 0 || iy >= c.in[1]) continue;
        taps.in[taps.count] = image + iz * c.in_stride[0] + iy * c.in_stride[1] + ix * c.in_stride[2];
        taps.weight[taps.count] = weight + static_cast<long>(tap.weight) * c.groups;
        taps.offset[taps.count++] = tap.offset[2];
        if (ix < 0) begin = max_of(begin, ceil_div(-ix, c.step[2]));
        end = min_of(end, c.in[2] > ix ? ceil_div(c.in[2] - ix, c.step[2]) : 0);
    }
    taps.begin = static_cast<int>(min_of<long>(begin, c.positions[2]));
    taps.end = static_cast<int>(max_of<long>(taps.begin, end));
}

template <class S>
void run_phase(const TapConv& c, const S* from, const float* weight, S* to, const Epilogue& epilogue) {
    const long rows = static_cast<long>(c.images) * c.positions[0] * c.positions[1];
    const double macs = 4.0 * static_cast<double>(c.position_count()) * c.images * c.groups * (c.tap_count + 1);
    const long pieces = min_of(rows, piece_count(macs));
    parallel(pieces, [&](long piece) {
        RowTaps<S> taps, spare;
        for (long row = rows * piece / pieces; row < rows * (piece + 1) / pieces; row++) {
            const long y = row % c.positions[1], z = row / c.positions[1] % c.positions[0],
                       image = row / c.positions[1] / c.positions[0];
            find_row_taps(c, from + image * c.in_image, weight, z, y, taps);
            S* out = to + c.out_origin + image * c.out_image + z * c.out_stride[0] + y * c.out_stride[1];
            run_row(Row<S>{&c, c.step[2] * c.in_stride[2], out, &epilogue, c.groups}, taps, spare);
        }
    });
}

// What a multiplication of these shapes costs in memory is about three more.
long row_pieces(const ConvShape& s, int n, long rows) { return min_of(rows, piece_count(4 * s.macs(n))); }

// 3x3: the rows of inputs of each row of outputs are found once, the rest is registers.
template <class S>
void run_rows(const ConvPlan& plan, int n, const S* from, const float* weight, S* to, const Epilogue& epilogue) {
    const ConvShape& s = plan.shape;
    const bool back = plan.pass == ConvPass::backward_data, spread = back && s.stride[2] == 2;
    const int from_height = back ? s.out[1] : s.in[1], from_width = back ? s.out[2] : s.in[2];
    const int height = back ? s.in[1] : s.out[1], width = back ? s.in[2] : s.out[2];
    const long row_floats = static_cast<long>(from_width) * s.cin, rows = n * static_cast<long>(height);
    const long pieces = row_pieces(s, n, rows);
    DepthwiseRowOf<S> shared{{},         s.cin,      back ? 1 : s.stride[2],
                             from_width, width,      s.pad_lo[2],
                             weight,     3L * s.cin, s.cin,
                             &epilogue,  nullptr,    nullptr,
                             nullptr};
    if (back && !spread) {  // mirrored: from the last weight back
        shared.weight += 8L * s.cin;
        shared.weight_row *= -1;
        shared.weight_column *= -1;
    }
    parallel(pieces, [&](long piece) {
        DepthwiseRowOf<S> r = shared;
        for (long row = rows * piece / pieces; row < rows * (piece + 1) / pieces; row++) {
            const int y = static_cast<int>(row % height);
            const S* image = from + row / height * from_height * row_floats;
            const auto row_at = [=](int i) { return image + i * row_floats; };
            r.out = to + row * width * s.cin;
            if (spread) {
                find_spread_rows(y, from_height, row_at, r.rows);
                depthwise3_spread_row(r);
            } else {
                find_rows(y, shared.stride, s.pad_lo[1], from_height, row_at, r.rows);
                depthwise3_row(r);
            }
        }
    });
}

}  // namespace

template <class S>
void run_conv_depthwise(const ConvPlan& plan, int n, const S* from, const float* weight, S* to,
                        const Epilogue& epilogue) {
    if (depthwise3_applies(plan.shape, plan.pass)) return run_rows(plan, n, from, weight, to, epilogue);
    TapConv c;
    for (int phase = 0; phase < phase_count(plan.pass, plan.shape); phase++) {
        make_phase(plan.pass, plan.shape, n, phase, c);
        run_phase(c, from, weight, to, epilogue);
    }
}

template void run_conv_depthwise<float>(const ConvPlan&, int, const float*, const float*, float*, const Epilogue&);
template void run_conv_depthwise<bf16>(const ConvPlan&, int, const bf16*, const float*, bf16*, const Epilogue&);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
