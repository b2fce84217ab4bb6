// Depthwise convolution on bytes. The kernel's rows are taken four at a time: their bytes at one column, interleaved
// channel by channel, are what one product instruction sums. Neighbouring outputs share columns, so with three columns
// and a stride of 1 or 2 each is interleaved once for a row of outputs.
#include "kernels/dot_int8_depthwise.h"

#include "kernels/dot_int8.h"
#include "kernels/dot_int8_lanes.h"
#include "kernels/op_tools.h"
#include "kernels/tap_conv.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr int most_rows = 64;

// The channel whose bytes lie in lane `lane` of interleaved vector j: interleaving works on runs of 16 bytes.
int channel_of(int j, int lane) { return lane / 4 * 16 + 4 * j + lane % 4; }

// What is packed for one block of channels: weights [column][group of four rows][j][lane][4], bias and factor
// [j][lane].
struct DepthwiseLayout {
    int columns, groups;
    long weight_bytes() const { return static_cast<long>(columns) * groups * 4 * block; }
    long bytes() const { return weight_bytes() + 8 * block; }
};

DepthwiseLayout layout_of(const long* ints) {
    return {static_cast<int>(ints[11]), static_cast<int>(ceil_div(ints[9] * ints[10], 4))};
}

// One block of channels of one row of outputs.
struct Row {
    const uint8_t* in[most_rows];  // at column 0; rows in the padding, and those that only fill a group of four
    const uint8_t* padding;
    long pixel;  // bytes between neighbouring inputs, and outputs
    int width;   // of the input
    int channels;
    DepthwiseLayout layout;
    const int8_t* weight;
    uint8_t* out;
    Rounding rounding;
};

// The interleaved bytes of four rows at one column.
struct Column {
    VecInt q[4];
};

FOVEA_INLINE Column load_column(const Row& r, int group, long at) {
    const bool inside = at >= 0 && at < r.width;
    VecInt row[4];
    FOVEA_UNROLL
    for (int i = 0; i < 4; i++)
        row[i] = load_block(inside ? r.in[4 * group + i] + at * r.pixel : r.padding, r.channels);
    const VecInt low01 = low_bytes(row[0], row[1]), high01 = high_bytes(row[0], row[1]);
    const VecInt low23 = low_bytes(row[2], row[3]), high23 = high_bytes(row[2], row[3]);
    return {{low_pairs(low01, low23), high_pairs(low01, low23), low_pairs(high01, high23), high_pairs(high01, high23)}};
}

FOVEA_INLINE void add_column(VecInt sum[4], const Column& c, const int8_t* weight) {
    FOVEA_UNROLL
    for (int j = 0; j < 4; j++) sum[j] = dot(sum[j], pixels_of(c.q[j]), weights_of(load_int(weight + j * block)));
}

FOVEA_INLINE void begin(const Row& r, VecInt sum[4]) {
    FOVEA_UNROLL
    for (int j = 0; j < 4; j++) sum[j] = load_int(r.weight + r.layout.weight_bytes() + j * block);
}

FOVEA_INLINE void finish(const Row& r, const VecInt sum[4], long x) {
    const float* factor = reinterpret_cast<const float*>(r.weight + r.layout.weight_bytes() + 4 * block);
    VecInt q[4];
    FOVEA_UNROLL
    for (int j = 0; j < 4; j++) q[j] = to_byte_lanes(to_float(sum[j]) * load(factor + j * VL), r.rounding);
    store_block(r.out + x * r.pixel, joined(q), r.channels);
}

FOVEA_INLINE void output3(const Row& r, const Column& a, const Column& b, const Column& c, long x) {
    VecInt sum[4];
    begin(r, sum);
    add_column(sum, a, r.weight);
    add_column(sum, b, r.weight + 4 * block);
    add_column(sum, c, r.weight + 8 * block);
    finish(r, sum, x);
}

// Output x from columns a, b, c: the first is there, and with stride 1 the second.
template <int stride>
FOVEA_INLINE void step3(const Row& r, Column& a, Column& b, Column& c, int pad, long x) {
    const long at = x * stride - pad;
    if (stride == 2) b = load_column(r, 0, at + 1);
    c = load_column(r, 0, at + 2);
    output3(r, a, b, c, x);
}

// Three columns, up to four rows, stride 1 or 2: columns go round, so that none is moved from register to register.
template <int stride>
void row3(const Row& r, int pad, long outputs) {
    Column a = load_column(r, 0, -pad), b, c;
    if (stride == 1) b = load_column(r, 0, 1 - pad);
    for (long x = 0;; x += 3) {
        if (x == outputs) return;
        step3<stride>(r, a, b, c, pad, x);
        if (x + 1 == outputs) return;
        stride == 1 ? step3<stride>(r, b, c, a, pad, x + 1) : step3<stride>(r, c, a, b, pad, x + 1);
        if (x + 2 == outputs) return;
        stride == 1 ? step3<stride>(r, c, a, b, pad, x + 2) : step3<stride>(r, b, c, a, pad, x + 2);
    }
}

// Any kernel, stride and dilation.
void row_any(const Row& r, int stride, int dilation, int pad, long outputs) {
    for (long x = 0; x < outputs; x++) {
        VecInt sum[4];
        begin(r, sum);
        const int8_t* weight = r.weight;
        for (int column = 0; column < r.layout.columns; column++)
            for (int group = 0; group < r.layout.groups; group++, weight += 4 * block)
                add_column(sum, load_column(r, group, x * stride + static_cast<long>(column) * dilation - pad), weight);
        finish(r, sum, x);
    }
}

}  // namespace

void int8_depthwise3_row(const Int8DepthwiseRow& row) {
    Row r;
    r.pixel = row.pixel;
    r.width = row.width;
    r.layout = {3, 1};
    r.rounding = row.rounding;
    r.weight = row.packed;
    for (long first = 0; first < row.pixel; first += block, r.weight += r.layout.bytes()) {
        for (int i = 0; i < 3; i++) r.in[i] = row.rows[i] + first;
        r.in[3] = r.padding = row.padding + first;
        r.channels = static_cast<int>(min_of<long>(block, row.pixel - first));
        r.out = row.out + first;
        row.stride == 1 ? row3<1>(r, row.pad, row.out_width) : row3<2>(r, row.pad, row.out_width);
    }
}

// packed <- weight (kernel, 1, C) as int8, bias (int32), factor; ints: sizes as conv.h's ConvShape.
void int8_depthwise_pack(const OpCall& call) {
    const DepthwiseLayout l = layout_of(call.ints);
    const long channels = call.ints[1], rows = call.ints[9] * call.ints[10];
    const int8_t* weight = static_cast<const int8_t*>(call.operand[1]);
    const int32_t* bias = static_cast<const int32_t*>(call.operand[2]);
    for (long b = 0; b < ceil_div(channels, block); b++) {
        int8_t* out = static_cast<int8_t*>(call.operand[0]) + b * l.bytes();
        int32_t* biases = reinterpret_cast<int32_t*>(out + l.weight_bytes());
        float* factors = reinterpret_cast<float*>(biases + block);
        std::memset(out, 0, static_cast<size_t>(l.bytes()));
        for (int j = 0; j < 4; j++)
            for (int lane = 0; lane < VL; lane++) {
                const long channel = b * block + channel_of(j, lane);
                if (channel >= channels) continue;
                biases[j * VL + lane] = bias[channel];
                factors[j * VL + lane] = in(call, 3)[channel];
                for (int column = 0; column < l.columns; column++)
                    for (long row = 0; row < rows; row++) {
                        const long place = (column * l.groups + row / 4) * 4 * block + j * block + 4 * lane + row % 4;
                        out[place] = weight[(row * l.columns + column) * channels + channel];
                    }
            }
    }
}

// out <- in, packed, padding (a row of inputs full of the zero point); ints: sizes, zero; reals: low, high.
void int8_depthwise(const OpCall& call) {
    const long* s = call.ints;
    const DepthwiseLayout l = layout_of(s);
    const long channels = s[1], pixel = round_up(channels, 4), row_bytes = s[5] * pixel;
    const long rows = call.n * s[6] * s[7], out_row = s[8] * pixel;
    const bool three = l.columns == 3 && l.groups == 1 && s[17] == 1;
    const uint8_t* from = static_cast<const uint8_t*>(call.operand[1]);
    const uint8_t* padding = static_cast<const uint8_t*>(call.operand[3]);
    const long pieces = min_of(rows, piece_count(static_cast<double>(rows) * s[8] * channels * (l.columns + 2)));
    parallel(pieces, [&](long piece) {
        Row r;
        r.pixel = pixel;
        r.width = static_cast<int>(s[5]);
        r.layout = l;
        r.rounding = rounding(call.reals[0], call.reals[1], static_cast<int>(s[21]));
        for (long row = rows * piece / pieces; row < rows * (piece + 1) / pieces; row++) {
            const long y = row % s[7], z = row / s[7] % s[6], image = row / s[7] / s[6];
            for (long first = 0; first < channels; first += block) {
                for (long tap = 0; tap < 4 * l.groups; tap++) {
                    const long iz = z * s[12] + tap / s[10] * s[15] - s[18],
                               iy = y * s[13] + tap % s[10] * s[16] - s[19];
                    const bool inside = tap < s[9] * s[10] && iz >= 0 && iz < s[3] && iy >= 0 && iy < s[4];
                    r.in[tap] = inside ? from + ((image * s[3] + iz) * s[4] + iy) * row_bytes + first : padding + first;
                }
                r.padding = padding + first;
                r.channels = static_cast<int>(min_of<long>(block, pixel - first));
                r.weight = static_cast<const int8_t*>(call.operand[2]) + first / block * l.bytes();
                r.out = static_cast<uint8_t*>(call.operand[0]) + row * out_row + first;
                if (three && s[14] == 1)
                    row3<1>(r, static_cast<int>(s[20]), s[8]);
                else if (three && s[14] == 2)
                    row3<2>(r, static_cast<int>(s[20]), s[8]);
                else
                    row_any(r, static_cast<int>(s[14]), static_cast<int>(s[17]), static_cast<int>(s[20]), s[8]);
            }
        }
    });
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
