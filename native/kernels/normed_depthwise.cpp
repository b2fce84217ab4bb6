// Depthwise 3x3 on the output of a batch norm that is never stored: rows of y = clamp((x - mean) factor + beta) are
// made where they are used, in bands that stay in the second-level cache. Forward takes the moments of what it writes
// on the way; backward gives the weight's gradient, the gradient behind the clamp, and the sums that the norm's needs.
// Where the batch norm behind it hands down the gradient behind its own clamp, its gradient is made in bands as well.
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
    // What a band of so many rows of outputs keeps: rows of inputs, and gradients of the outputs around them.
    long elements(long rows, bool gradients) const {
        return input_rows(rows) * in_row() + (gradients ? (rows + 2) * out_row() : 0);
    }
    // Rows of outputs of one band: bands of about equal height.
    template <class S>
    long band_rows(long rows, bool gradients) const {
        long fitting = 1;
        while (fitting < rows && elements(fitting + 1, gradients) * static_cast<long>(sizeof(S)) <= band_bytes)
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

// Rows that a band needs, made by make(first row, rows, to); those that it shares with the band before are moved, not
// made again.
template <class S>
class BandRows {
  public:
    BandRows(long row_elements, S* rows) : width_(row_elements), rows_(rows) {}

    template <class Make>
    void take(long first, long behind, const Make& make) {
        const long kept = max_of(0L, behind_ - first);
        if (kept > 0)
            __builtin_memmove(rows_, rows_ + (first - first_) * width_, static_cast<size_t>(kept * width_) * sizeof(S));
        make(first + kept, behind - first - kept, rows_ + kept * width_);
        first_ = first;
        behind_ = behind;
    }
    const S* at(long row) const { return rows_ + (row - first_) * width_; }

  private:
    long width_;
    S* rows_;
    long first_ = 0, behind_ = 0;
};

// body(piece, rows of y, room for gradients of outputs, band's first output, behind its last)
template <class S, class Body>
void over_bands(const OpCall& call, const Sizes& s, const S* x, const float* saved, bool gradients, const Body& body) {
    const float low = call.reals[0], high = call.reals[1];
    parallel(call.n * s.splits, [&](long piece) {
        const long begin = s.first_row(piece % s.splits), end = begin + s.rows_of(piece),
                   band = s.band_rows<S>(end - begin, gradients);
        const long bytes = s.elements(band, gradients) * static_cast<long>(sizeof(S));
        S* room = reinterpret_cast<S*>(thread_scratch(static_cast<size_t>(ceil_div(bytes, sizeof(float)))));
        const S* image = x + piece / s.splits * s.height * s.in_row();
        BandRows<S> rows(s.in_row(), room), behind(s.out_row(), room + s.elements(band, false));
        for (long at = begin; at < end; at += band) {
            const long until = min_of(end, at + band);
            rows.take(max_of(0L, at * s.stride - 1), min_of(s.height, (until - 1) * s.stride + 2),
                      [&](long first, long count, S* to) {
                          apply_rows<false, S>(image + first * s.in_row(), nullptr, saved, 0, count * s.width,
                                               s.channels, low, high, to);
                      });
            body(piece, rows, behind, at, until);
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
    const Statistics statistics = statistics_behind(call);
    const Epilogue epilogue{in(call, 7), false, 0, 0};
    const auto band_of = [&](long piece, const BandRows<S>& rows, const BandRows<S>&, long at, long until) {
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
    };
    over_bands(call, s, in<S>(call, 4), in(call, 5), false, band_of);
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

// Rows [begin, end) of the gradient of y; row_at(i): row i of the gradients of the outputs.
template <class S, class RowAt>
void spread_rows(const Sizes& s, const RowAt& row_at, const float* weight, long begin, long end, S* out) {
    const Epilogue none;
    const int height = static_cast<int>(s.out_height);
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

// g, dweight, dgamma, dbeta (these may be null), means, dz, x, saved, weight; z, saved, means of the batch norm behind
// (null without: else dz is the gradient behind its clamp). ints: see Sizes; reals: low, high of y. g is the gradient
// behind the clamp, with respect to (x - mean) factor + beta; `means` is for batchnorm_gradient.
template <class S>
void backward(const OpCall& call) {
    const Sizes s(call.ints);
    S* g = out<S>(call, 0);
    float* parts = call.scratch;
    const S *dz = in<S>(call, 5), *x = in<S>(call, 6), *z = in<S>(call, 9);
    const float* saved = in(call, 7);
    const bool clamps = call.reals[1] < __builtin_inff() || call.reals[0] > -__builtin_inff();
    const auto mask = clamps ? mask_and_sum<by_output, S> : mask_and_sum<open, S>;
    const long pieces = call.n * s.splits, weights = weight_rows * s.channels;
    float* sums = parts + pieces * weights;
    const auto band_of = [&](long piece, const BandRows<S>& rows, BandRows<S>& behind, long at, long until) {
        const long image = piece / s.splits, to_end = until == s.out_height ? s.height : until * s.stride;
        const long offset = image * s.out_height * s.out_row();
        float *weight_part = parts + piece * weights, *sum_part = sums + piece * sum_rows * s.channels;
        if (at == s.first_row(piece % s.splits)) {
            for (long i = 0; i < weights; i++) weight_part[i] = 0;
            for (long i = 0; i < sum_rows * s.channels; i++) sum_part[i] = 0;
        }
        if (z)
            behind.take(max_of(0L, at - 1), min_of(s.out_height, until + 1), [&](long first, long count, S* to) {
                const long from = offset + first * s.out_row();
                const Backward<S> norm{dz + from,    nullptr, z + from, nullptr,
                                       in(call, 10), to,      nullptr,  static_cast<float*>(call.operand[11]),
                                       s.channels,   0};
                gradient_rows<open>(norm, norm.dy, 0, count * s.out_width);
            });
        const auto gradients = [&](long y) { return z ? behind.at(y) : dz + offset + y * s.out_row(); };
        const Epilogue none;
        DepthwiseRowOf<S> row = s.row<S>(nullptr, none);
        row.sum = weight_part;
        for (long y = at; y < until; y++) {
            row.grad = gradients(y);
            find_rows(
                static_cast<int>(y), row.stride, 1, static_cast<int>(s.height), [&](int i) { return rows.at(i); },
                row.rows);
            depthwise3_weight_row(row);
        }
        const long first = image * s.height + at * s.stride;
        S* band = g + first * s.in_row();
        spread_rows(s, gradients, in(call, 8), at * s.stride, to_end, band);
        mask(x + first * s.in_row(), rows.at(at * s.stride), saved, call.reals[1], (to_end - at * s.stride) * s.width,
             s.channels, band, sum_part);
    };
    over_bands(call, s, x, saved, z != nullptr, band_of);
    if (out(call, 1)) add_partial_sums(parts, weights, pieces, out(call, 1));
    finish_gradients(saved, sums, pieces, sum_rows * s.channels, call.n * s.height * s.width, s.channels, out(call, 2),
                     out(call, 3), out(call, 4));
}

const OpKernel list[] = {
    {"normed_depthwise", 10, 7, 4, forward<float>, forward_scratch, operands(0, 4), forward<bf16>},
    {"normed_depthwise_backward", 12, 7, 2, backward<float>, backward_scratch, operands(0, 5, 6, 9), backward<bf16>},
};

}  // namespace

OpList normed_depthwise_ops() { return op_list(list); }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
