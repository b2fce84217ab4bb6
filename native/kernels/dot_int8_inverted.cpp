// Inverted residual blocks (inverted.cpp) on bytes: pointwise up, depthwise 3x3, pointwise down, in bands of rows, so
// that what is between them stays in cache. Every byte is the one that the three would make one after the other.
#include "kernels/dot_int8.h"
#include "kernels/dot_int8_depthwise.h"
#include "kernels/dot_int8_tile.h"
#include "kernels/op_tools.h"
#include "kernels/tap_conv.h"
#include "runtime/memory.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// What a band's intermediate bytes may take of a second-level cache, which holds the weights as well.
constexpr long band_bytes = 256 << 10;

// As the lowering gives it (integer.py).
struct Block {
    int height, width, cin, hidden, out_height, out_width, cout, stride, pad, expands, splits;

    long in_row() const { return width * round_up(cin, 4); }
    long wide_row() const { return width * round_up(hidden, 4); }
    long deep_row() const { return out_width * round_up(hidden, 4); }
    long out_row() const { return out_width * round_up(cout, 4); }
    // Rows of inputs that `rows` rows of outputs meet.
    int input_rows(int rows) const { return (rows - 1) * stride + 3; }
    // Rows of outputs of one band: bands of about equal height.
    int band_rows(int rows) const {
        int fitting = 1;
        while (fitting < rows &&
               (expands ? input_rows(fitting + 1) : 0) * wide_row() + (fitting + 1) * deep_row() <= band_bytes)
            fitting++;
        return static_cast<int>(ceil_div(rows, ceil_div(rows, fitting)));
    }
};

// A pointwise convolution of a run of pixels.
struct Pointwise {
    long words, out_bytes;  // of a pixel
    int columns;
    Int8Blocks blocks;
    const int8_t* packed;
    Int8Epilogue epilogue;

    void run(const uint8_t* from, long count, uint8_t* to) const;
};

void Pointwise::run(const uint8_t* from, long count, uint8_t* to) const {
    constexpr int most = 12;
    const int tile_pixels = int8_tile_pixels(blocks, count, false), zero = 0;
    const Int8Tile usual = int8_tile(tile_pixels, blocks.vectors),
                   last = int8_tile(tile_pixels, blocks.width(blocks.count() - 1));
    const float* in[most];
    float* out[most];
    Int8TileArgs args{};
    args.in = in;
    args.out = out;
    args.taps = 1;
    args.depth = words;
    args.panel_tap = &zero;
    args.epilogue = &epilogue;
    for (long pixel = 0; pixel < count; pixel += tile_pixels) {
        args.pixels = static_cast<int>(min_of<long>(tile_pixels, count - pixel));
        for (int i = 0; i < tile_pixels; i++) {  // pixels that are not there repeat the last
            const long one = min_of(pixel + i, count - 1);
            in[i] = reinterpret_cast<const float*>(from + one * words * 4);
            out[i] = reinterpret_cast<float*>(to + one * out_bytes);
        }
        for (int block = 0; block < blocks.count(); block++) {
            args.column = static_cast<long>(block) * blocks.vectors * VL;
            args.columns = static_cast<int>(min_of<long>(blocks.vectors * VL, columns - args.column));
            args.panel = packed + args.column * words * 4;
            (block + 1 == blocks.count() ? last : usual)(args);
        }
    }
}

struct Job {
    Block block;
    const uint8_t *in, *padding, *residual;
    Pointwise up, down;
    const int8_t* deep;
    Rounding deep_rounding;
    uint8_t* out;
};

// Rows begin .. end of one image's outputs.
void run_rows(const Job& job, long image, int begin, int end) {
    const Block& s = job.block;
    const uint8_t* in = job.in + image * s.height * s.in_row();
    uint8_t* out = job.out + image * s.out_height * s.out_row();
    const int band = s.band_rows(end - begin);
    const long wide_bytes = s.expands ? s.input_rows(band) * s.wide_row() : 0;
    uint8_t* expanded =
        reinterpret_cast<uint8_t*>(thread_scratch(static_cast<size_t>(ceil_div(wide_bytes + band * s.deep_row(), 4))));
    uint8_t* between = expanded + wide_bytes;
    Int8DepthwiseRow row{{},    job.padding, round_up(s.hidden, 4), s.width, s.out_width, s.stride,
                         s.pad, job.deep,    job.deep_rounding,     nullptr};
    int first = 0, behind = 0;  // the rows that `expanded` holds
    for (int at = begin; at < end; at += band) {
        const int until = min_of(end, at + band);
        const int low = max_of(0, at * s.stride - s.pad);
        const int high = min_of(s.height, (until - 1) * s.stride - s.pad + 3);
        const uint8_t* rows = in + low * s.in_row();
        if (s.expands) {
            const int kept = max_of(0, behind - low);
            if (kept > 0)
                __builtin_memmove(expanded, expanded + (low - first) * s.wide_row(),
                                  static_cast<size_t>(kept * s.wide_row()));
            job.up.run(rows + kept * s.in_row(), (high - low - kept) * static_cast<long>(s.width),
                       expanded + kept * s.wide_row());
            first = low;
            behind = high;
            rows = expanded;
        }
        for (int i = at; i < until; i++) {
            for (int tap = 0; tap < 3; tap++) {
                const int y = i * s.stride - s.pad + tap;
                row.rows[tap] = y >= 0 && y < s.height ? rows + (y - low) * s.wide_row() : job.padding;
            }
            row.out = between + (i - at) * s.deep_row();
            int8_depthwise3_row(row);
        }
        job.down.run(between, (until - at) * static_cast<long>(s.out_width), out + at * s.out_row());
    }
}

}  // namespace

// out <- in, packed weights, bias (int32) and factor of the first convolution (or none), packed depthwise weights,
// padding (a row of its inputs full of the zero point), packed, bias and factor of the last, residual (or none).
// ints: see Block, then the zero points of the three results and of the residual; reals: low and high of the three
// results, residual_factor.
void int8_inverted(const OpCall& call) {
    const auto at = [&](int i) { return static_cast<int>(call.ints[i]); };
    const Block b{at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7), at(8), at(9), at(10)};
    const auto bytes = [&](int i) { return static_cast<uint8_t*>(call.operand[i]); };
    const uint8_t* residual = bytes(10);
    const auto pointwise = [&](int operand, int inputs, int outputs, int result) {
        const Int8Epilogue epilogue{static_cast<const int32_t*>(call.operand[operand + 1]),
                                    in(call, operand + 2),
                                    result == 2 && residual != nullptr,
                                    residual ? residual - bytes(0) : 0,
                                    at(14),
                                    call.reals[6],
                                    call.reals[2 * result],
                                    call.reals[2 * result + 1],
                                    at(11 + result),
                                    false};
        return Pointwise{ceil_div(inputs, 4),
                         round_up(outputs, 4),
                         outputs,
                         int8_blocks(outputs),
                         static_cast<const int8_t*>(call.operand[operand]),
                         epilogue};
    };
    const Job job{b,
                  bytes(1),
                  bytes(6),
                  residual,
                  pointwise(2, b.cin, b.hidden, 0),
                  pointwise(7, b.hidden, b.cout, 2),
                  static_cast<const int8_t*>(call.operand[5]),
                  rounding(call.reals[2], call.reals[3], at(12)),
                  bytes(0)};
    parallel(call.n * b.splits, [&](long piece) {
        const long image = piece / b.splits, split = piece % b.splits;
        run_rows(job, image, static_cast<int>(b.out_height * split / b.splits),
                 static_cast<int>(b.out_height * (split + 1) / b.splits));
    });
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
