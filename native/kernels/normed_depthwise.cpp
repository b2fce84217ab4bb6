// Depthwise 3x3 on the output of a batch norm that is never stored: rows of y = clamp((x - mean) factor + beta) are
// made where they are used, in bands that stay in the second-level cache. Forward takes the moments of what it writes
// on the way; backward gives the weight's gradient, the gradient behind the clamp, and the sums that the norm's needs.
#include "kernels/conv_depthwise3.h"
#include "kernels/families.h"
#include "kernels/norm_rows.h"
#include "kernels/partial_sums.h"
#include "runtime/memory.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr long band_bytes = 256 << 10;

// As the lowering gives it (rules/normed.py).
struct Sizes {
    long height, width, channels, out_height, out_width, stride, splits;

    explicit Sizes(const long* i)
        : height(i[0]), width(i[1]), channels(i[2]), out_height(i[3]), out_width(i[4]), stride(i[5]), splits(i[6]) {}

    long in_row() const { return width * channels; }
    long out_row() const { return out_width * channels; }
    // The rows of outputs of a piece begin here.
    long first_row(long split) const { return out_height * split / splits; }
    long rows_of(long piece) const { return first_row(piece % splits + 1) - first_row(piece % splits); }
    // Rows of inputs that `rows` rows of outputs meet.
    long input_rows(long rows) const { return (rows - 1) * stride + 3; }
    // Rows of outputs of one band: bands of about equal height.
    template <class S>
    long band_rows(long rows) const {
        long fitting = 1;
        while (fitting < rows && input_rows(fitting + 1) * in_row() * static_cast<long>(sizeof(S)) <= band_bytes)
            fitting++;
        return ceil_div(rows, ceil_div(rows, fitting));
    }
    template <class S>
    DepthwiseRowOf<S> row(const float* weight, const Epilogue& epilogue) const {
        const int c = static_cast<int>(channels);
        return {{},
                c,
                static_cast<int>(stride),
                static_cast<int>(width),
                static_cast<int>(out_width),
                1,
                weight,
                3L * c,
                c,
                &epilogue,
                nullptr,
                nullptr,
                nullptr};
    }
};

// The normalised rows that a band needs; those that it shares with the band before are moved, not made again.
template <class S>
class NormedRows {
  public:
    NormedRows(const Sizes& s, const S* image, const float* saved, float low, float high, S* rows)
        : s_(s), image_(image), saved_(saved), low_(low), high_(high), rows_(rows) {}

    // The rows that outputs [begin, end) meet.
    void take(long begin, long end) {
        const long first = max_of(0L, begin * s_.stride - 1), behind = min_of(s_.height, (end - 1) * s_.stride + 2);
        const long kept = max_of(0L, behind_ - first), width = s_.in_row();
        if (kept > 0)
            __builtin_memmove(rows_, rows_ + (first - first_) * width, static_cast<size_t>(kept * width) * sizeof(S));
        apply_rows<false, S>(image_ + (first + kept) * width, nullptr, saved_, 0, (behind - first - kept) * s_.width,
                             s_.channels, low_, high_, rows_ + kept * width);
        first_ = first;
        behind_ = behind;
    }
    const S* at(long row) const { return rows_ + (row - first_) * s_.in_row(); }

  private:
    const Sizes& s_;
    const S* image_;
    const float* saved_;
    float low_, high_;
    S* rows_;
    long first_ = 0, behind_ = 0;
};

// body(piece, rows of y, band's first output, behind its last)
template <class S, class Body>
void over_bands(const OpCall& call, const Sizes& s, const S* x, const float* saved, const Body& body) {
    const float low = call.reals[0], high = call.reals[1];
    parallel(call.n * s.splits, [&](long piece) {
        const long begin = s.first_row(piece % s.splits), end = begin + s.rows_of(piece),
                   band = s.band_rows<S>(end - begin);
        const long elements = s.input_rows(band) * s.in_row();
        const size_t floats = static_cast<size_t>(ceil_div(elements * static_cast<long>(sizeof(S)), sizeof(float)));
        NormedRows<S> rows(s, x + piece / s.splits * s.height * s.in_row(), saved, low, high,
                           reinterpret_cast<S*>(thread_scratch(floats)));
        for (long at = begin; at < end; at += band) {
            const long until = min_of(end, at + band);
            rows.take(at, until);
            body(piece, rows, at, until);
        }
    });
}

size_t forward_scratch(const OpCall& call) {
    const Sizes s(call.ints);
    return static_cast<size_t>(call.n * s.splits * moment_rows * s.channels);
}

// z; of the batch norm behind it (null without): saved, running_mean, running_var; x, saved, weight, bias (may be
// null); of the batch norm behind it: gamma, beta. ints: see Sizes; reals: low, high of y; eps, momentum of that batch
// norm.
template <class S>
void forward(const OpCall& call) {
    const Sizes s(call.ints);
    S* z = out<S>(call, 0);
    float* parts = call.scratch;
    const Statistics statistics{out(call, 1),
                                out(call, 2),
                                out(call, 3),
                                in(call, 8),
                                in(call, 9),
                                static_cast<double>(call.reals[2]),
                                static_cast<double>(call.reals[3])};
    const Epilogue epilogue{in(call, 7), false, 0, 0};
    over_bands(call, s, in<S>(call, 4), in(call, 5), [&](long piece, const NormedRows<S>& rows, long at, long until) {
        DepthwiseRowOf<S> row = s.row<S>(in(call, 6), epilogue);
        S* band = z + (piece / s.splits * s.out_height + at) * s.out_row();
        row.out = band;
        for (long y = at; y < until; y++, row.out += s.out_row()) {
            find_rows(
                static_cast<int>(y), row.stride, 1, static_cast<int>(s.height), [&](int i) { return rows.at(i); },
                row.rows);
            depthwise3_row(row);
        }
        if (!statistics.saved) return;
        float* part = parts + piece * moment_rows * s.channels;
        if (at == s.first_row(piece % s.splits)) start_moments(band, s.channels, part);
        add_moments(band, (until - at) * s.out_width, s.channels, part);
    });
    if (statistics.saved)
        finish_statistics(statistics, parts, call.n * s.splits, call.n * s.out_height * s.out_width, s.channels,
                          [&](long piece) { return s.rows_of(piece) * s.out_width; });
}

// Of every piece: the weight's gradient; behind those of all pieces, the sums of g and of g (x - mean).
constexpr long weight_rows = 9, sum_rows = 2;

size_t backward_scratch(const OpCall& call) {
    const Sizes s(call.ints);
    return static_cast<size_t>(call.n * s.splits * (weight_rows + sum_rows) * s.channels);
}

// Rows [begin, end) of the gradient of y, from the gradients of all outputs of an image.
template <class S>
void spread_rows(const Sizes& s, const S* gradients, const float* weight, long begin, long end, S* out) {
    const Epilogue none;
    const int height = static_cast<int>(s.out_height);
    const auto row_at = [&](int i) { return gradients + i * s.out_row(); };
    DepthwiseRowOf<S> row = s.row<S>(weight, none);
    row.in_width = static_cast<int>(s.out_width);
    row.out_width = static_cast<int>(s.width);
    row.out = out;
    if (s.stride == 1) {  // mirrored: from the last weight back
        row.weight += 8 * s.channels;
        row.weight_row *= -1;
        row.weight_column *= -1;
    }
    for (int y = static_cast<int>(begin); y < end; y++, row.out += s.in_row()) {
        if (s.stride == 1) {
            find_rows(y, 1, 1, height, row_at, row.rows);
            depthwise3_row(row);
        } else {
            find_spread_rows(y, height, row_at, row.rows);
            depthwise3_spread_row(row);
        }
    }
}

// g = mask(g) in its place; sums of g and g (x - mean) are added to `sums`.
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

// g, dweight, dgamma, dbeta (these may be null), means, dz, x, saved, weight; ints: see Sizes; reals: low, high of y.
// g is the gradient behind the clamp, with respect to (x - mean) factor + beta; `means` is for batchnorm_gradient.
template <class S>
void backward(const OpCall& call) {
    const Sizes s(call.ints);
    S* g = out<S>(call, 0);
    float* parts = call.scratch;
    const S *dz = in<S>(call, 5), *x = in<S>(call, 6);
    const float* saved = in(call, 7);
    const bool clamps = call.reals[1] < __builtin_inff() || call.reals[0] > -__builtin_inff();
    const long pieces = call.n * s.splits, weights = weight_rows * s.channels;
    float* sums = parts + pieces * weights;
    const Epilogue none;
    over_bands(call, s, x, saved, [&](long piece, const NormedRows<S>& rows, long at, long until) {
        const long image = piece / s.splits, to_end = until == s.out_height ? s.height : until * s.stride;
        const S* gradients = dz + image * s.out_height * s.out_row();
        float *weight_part = parts + piece * weights, *sum_part = sums + piece * sum_rows * s.channels;
        if (at == s.first_row(piece % s.splits)) {
            for (long i = 0; i < weights; i++) weight_part[i] = 0;
            for (long i = 0; i < sum_rows * s.channels; i++) sum_part[i] = 0;
        }
        DepthwiseRowOf<S> row = s.row<S>(nullptr, none);
        row.sum = weight_part;
        for (long y = at; y < until; y++) {
            row.grad = gradients + y * s.out_row();
            find_rows(
                static_cast<int>(y), row.stride, 1, static_cast<int>(s.height), [&](int i) { return rows.at(i); },
                row.rows);
            depthwise3_weight_row(row);
        }
        const long first = image * s.height + at * s.stride;
        S* band = g + first * s.in_row();
        spread_rows(s, gradients, in(call, 8), at * s.stride, to_end, band);
        const auto mask = clamps ? mask_and_sum<by_output, S> : mask_and_sum<open, S>;
        mask(x + first * s.in_row(), rows.at(at * s.stride), saved, call.reals[1], (to_end - at * s.stride) * s.width,
             s.channels, band, sum_part);
    });
    if (out(call, 1)) add_partial_sums(parts, weights, pieces, out(call, 1));
    finish_gradients(saved, sums, pieces, sum_rows * s.channels, call.n * s.height * s.width, s.channels, out(call, 2),
                     out(call, 3), out(call, 4));
}

const OpKernel list[] = {
    {"normed_depthwise", 10, 7, 4, forward<float>, forward_scratch, operands(0, 4), forward<bf16>},
    {"normed_depthwise_backward", 9, 7, 2, backward<float>, backward_scratch, operands(0, 5, 6), backward<bf16>},
};

}  // namespace

OpList normed_depthwise_ops() { return op_list(list); }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
