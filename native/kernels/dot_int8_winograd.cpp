// Convolution 3x3 with stride 1 on bytes by Winograd's F(2x2, 3x3) (Lavin and Gray, "Fast Algorithms for Convolutional
// Neural Networks", 2016): 16 products for four outputs instead of 36. For each tile of 4x4 inputs, whose zero point is
// 0,
//   V = B^T d B in 16 bits; bytes v = clamp(round(V / 4)) at position (1, 1), clamp(round(V / 3)) + 128 at the others
//   M[p] = (sum of v w[p] + bias[p]) * factor[p]       sums exact, the factor in float32
//   y = A^T M A, with offset in M[(1, 1)], whose sign is positive everywhere; then as in Int8Epilogue
// fovea/graph/winograd.py has the numbers. The transforms are to bytes, so a quarter of the error of V is lost: the
// scales at quantisation decide whether it may be. A piece takes a run of tiles through all three stages in its cache.
#include "kernels/dot_int8.h"
#include "kernels/dot_int8_lanes.h"
#include "kernels/dot_int8_tile.h"
#include "kernels/op_tools.h"
#include "kernels/tap_conv.h"
#include "runtime/memory.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr int positions = 16, sums = 5;  // position (1, 1) has sums alone: no sign
constexpr int16_t quarter = 1 << 13, third = 10923;
constexpr long piece_bytes = 384 << 10;  // of a second-level cache, which holds weights as well

struct Job {
    int height, width, cin, cout, out_height, out_width, pad_y, pad_x, tiles_y, tiles_x;
    Int8Blocks blocks;
    int pixels;  // tiles of a register tile
    const uint8_t* in;
    const int8_t* packed;  // [position], as int8_pack's groups
    const int32_t* bias;   // [position][C_out]
    const float* factor;   // [position][C_out]
    const float* offset;   // [C_out]
    const uint8_t* residual;
    int residual_zero;
    float residual_factor;
    Rounding rounding;
    uint8_t* out;

    long in_bytes() const { return round_up(cin, 4); }
    long out_bytes() const { return round_up(cout, 4); }
    // Between tiles, with a cache line more: powers of two would meet in the same cache sets.
    long input_pitch() const { return positions * in_bytes() + 64; }
    long product_pitch(long columns) const { return positions * columns + VL; }
    long block_bytes() const { return in_bytes() * blocks.vectors * VL; }
    long position_bytes() const { return in_bytes() * blocks.total * VL; }
};

struct Tile {
    long image;
    int y, x;  // of its first output
};

Tile tile_at(const Job& job, long index) {
    return {index / job.tiles_x / job.tiles_y, static_cast<int>(index / job.tiles_x % job.tiles_y) * 2,
            static_cast<int>(index % job.tiles_x) * 2};
}

// B^T d B on the lower or upper bytes of every 16 of a block of channels.
template <bool upper>
FOVEA_INLINE void transform_half(const uint8_t* const (&pixel)[positions], long channel, long left,
                                 VecShorts (&v)[positions]) {
    FOVEA_UNROLL
    for (int x = 0; x < 4; x++) {
        VecShorts d[4];
        FOVEA_UNROLL
        for (int y = 0; y < 4; y++) {
            const VecInt bytes = load_block(pixel[4 * y + x] + channel, left);
            d[y] = reinterpret_cast<VecShorts>(upper ? high_bytes(bytes, VecInt{}) : low_bytes(bytes, VecInt{}));
        }
        v[x] = d[0] - d[2];
        v[4 + x] = d[1] + d[2];
        v[8 + x] = d[2] - d[1];
        v[12 + x] = d[1] - d[3];
    }
    FOVEA_UNROLL
    for (int y = 0; y < positions; y += 4) {
        const VecShorts a = v[y], b = v[y + 1], c = v[y + 2], d = v[y + 3];
        v[y] = a - c;
        v[y + 1] = b + c;
        v[y + 2] = c - b;
        v[y + 3] = b - d;
    }
    FOVEA_UNROLL
    for (int i = 0; i < positions; i++) v[i] = scaled(v[i], i == sums ? quarter : third);
}

void transform_input(const Job& job, const Tile& tile, uint8_t* out) {
    const uint8_t* pixel[positions];
    const long bytes = job.in_bytes();
    for (int i = 0; i < positions; i++) {
        const int y = tile.y - job.pad_y + i / 4, x = tile.x - job.pad_x + i % 4;
        const bool inside = y >= 0 && y < job.height && x >= 0 && x < job.width;
        pixel[i] = inside ? job.in + ((tile.image * job.height + y) * job.width + x) * bytes
                          : static_cast<const uint8_t*>(static_cast<const void*>(zeros));
    }
    for (long channel = 0; channel < bytes; channel += block) {
        VecShorts low[positions], high[positions];
        transform_half<false>(pixel, channel, bytes - channel, low);
        transform_half<true>(pixel, channel, bytes - channel, high);
        FOVEA_UNROLL
        for (int i = 0; i < positions; i++) {
            const VecInt v = i == sums ? saturated_unsigned(low[i], high[i])
                                       : saturated(low[i], high[i]) ^ same_int(static_cast<int>(0x80808080));
            store_block(out + i * bytes + channel, v, bytes - channel);
        }
    }
}

// A^T M A: four pixels of V vectors of columns.
template <int V>
FOVEA_INLINE void output_sums(const float* products, long pitch, const float* offset, long lanes, Vec (&out)[4][V]) {
    FOVEA_UNROLL
    for (int j = 0; j < V; j++) {
        Vec t[2][4];
        FOVEA_UNROLL
        for (int x = 0; x < 4; x++) {
            Vec m[4];
            FOVEA_UNROLL
            for (int y = 0; y < 4; y++) m[y] = load(products + (4 * y + x) * pitch + j * VL);
            if (x == 1) m[1] += load(offset + j * VL, first_lanes(lanes - j * VL));
            t[0][x] = m[0] + m[1] + m[2];
            t[1][x] = m[1] - m[2] - m[3];
        }
        FOVEA_UNROLL
        for (int y = 0; y < 2; y++) {
            out[2 * y][j] = t[y][0] + t[y][1] + t[y][2];
            out[2 * y + 1][j] = t[y][1] - t[y][2] - t[y][3];
        }
    }
}

template <int V, bool whole>
FOVEA_INLINE void store_pixel(const Job& job, long to, long lanes, Vec (&y)[V]) {
    FOVEA_UNROLL
    for (int j = 0; j < V; j++) {
        const long left = whole ? VL : lanes - j * VL;
        if (job.residual)
            y[j] += to_float(load_bytes(job.residual + to + j * VL, left) - same_int(job.residual_zero)) *
                    broadcast(job.residual_factor);
        if (!whole) store_bytes(job.out + to + j * VL, to_byte_lanes(y[j], job.rounding), left);
    }
    if (whole) store_rounded(job.out + to, y, job.rounding);
}

// The columns first .. first + columns of one tile.
void transform_output(const Job& job, const Tile& tile, const float* products, long first, long columns, long pitch) {
    constexpr int wide = 4;
    const int rows = min_of(2, job.out_height - tile.y), width = min_of(2, job.out_width - tile.x);
    const long row = job.out_width * job.out_bytes();
    const long at = ((tile.image * job.out_height + tile.y) * job.out_width + tile.x) * job.out_bytes() + first;
    const auto place = [&](int i) { return at + i / 2 * row + i % 2 * job.out_bytes(); };
    const auto there = [&](int i) { return i / 2 < rows && i % 2 < width; };
    long c = 0;
    for (; c + wide * VL <= columns; c += wide * VL) {
        Vec out[4][wide];
        output_sums(products + c, pitch, job.offset + first + c, wide * VL, out);
        FOVEA_UNROLL
        for (int i = 0; i < 4; i++)
            if (there(i)) store_pixel<wide, true>(job, place(i) + c, wide * VL, out[i]);
    }
    for (; c < columns; c += VL) {
        Vec out[4][1];
        output_sums(products + c, pitch, job.offset + first + c, columns - c, out);
        FOVEA_UNROLL
        for (int i = 0; i < 4; i++)
            if (there(i)) store_pixel<1, false>(job, place(i) + c, columns - c, out[i]);
    }
}

struct Span {
    int block_begin, block_end;
    long tile_begin, tiles;
};

// M of all tiles: a panel of weights meets all of them before the next one.
void multiply(const Job& job, const Span& s, const uint8_t* input, float* products, long columns, long pitch) {
    constexpr int most = 12;
    const Int8Tile usual = int8_tile(job.pixels, job.blocks.vectors),
                   last = int8_tile(job.pixels, job.blocks.width(job.blocks.count() - 1));
    const long first = static_cast<long>(s.block_begin) * job.blocks.vectors * VL;
    const float* in[most];
    float* out[most];
    const int zero = 0;
    Int8Epilogue epilogue{};
    epilogue.low = -__builtin_inff();
    epilogue.high = __builtin_inff();
    epilogue.float_output = true;
    Int8TileArgs args{};
    args.in = in;
    args.out = out;
    args.taps = 1;
    args.depth = job.in_bytes() / 4;
    args.panel_tap = &zero;
    args.epilogue = &epilogue;
    for (int p = 0; p < positions; p++) {
        args.in_offset = p * args.depth;
        epilogue.bias = job.bias + static_cast<long>(p) * job.cout;
        epilogue.factor = job.factor + static_cast<long>(p) * job.cout;
        for (int block = s.block_begin; block < s.block_end; block++) {
            args.column = static_cast<long>(block) * job.blocks.vectors * VL;
            args.columns = static_cast<int>(min_of<long>(job.blocks.vectors * VL, job.cout - args.column));
            args.panel = job.packed + p * job.position_bytes() + block * job.block_bytes();
            for (long tile = 0; tile < s.tiles; tile += job.pixels) {
                args.pixels = static_cast<int>(min_of<long>(job.pixels, s.tiles - tile));
                for (int i = 0; i < job.pixels; i++) {
                    const long one = min_of(tile + i, s.tiles - 1);
                    in[i] = reinterpret_cast<const float*>(input + one * job.input_pitch());
                    out[i] = products + one * pitch + p * columns - first;
                }
                (block + 1 == job.blocks.count() ? last : usual)(args);
            }
        }
    }
}

void run_piece(const Job& job, const Span& s) {
    const long first = static_cast<long>(s.block_begin) * job.blocks.vectors * VL;
    const long end = min_of<long>(job.cout, static_cast<long>(s.block_end) * job.blocks.vectors * VL);
    const long columns = round_up(end - first, VL), pitch = job.product_pitch(columns);
    float* products = thread_scratch(static_cast<size_t>(s.tiles * (pitch + job.input_pitch() / 4)));
    uint8_t* input = reinterpret_cast<uint8_t*>(products + s.tiles * pitch);
    for (long i = 0; i < s.tiles; i++)
        transform_input(job, tile_at(job, s.tile_begin + i), input + i * job.input_pitch());
    multiply(job, s, input, products, columns, pitch);
    for (long i = 0; i < s.tiles; i++)
        transform_output(job, tile_at(job, s.tile_begin + i), products + i * pitch, first, end - first, columns);
}

// How work is cut: runs of `tiles` tiles, each in `spans` ranges of columns, which transform the same input once more.
// Weights pass once for every run, so few tiles are one run of many ranges, unless the columns are few as well.
struct Cut {
    int pixels;
    long tiles, spans;
};

Cut cut_of(const Job& job, long tiles) {
    constexpr long least_pieces = 8;
    const int usual = int8_tile_pixels(job.blocks, tiles, false), small = int8_tile_pixels(job.blocks, tiles, true);
    const bool few = tiles <= 4L * usual;
    Cut cut{few && round_up(tiles, small) < round_up(tiles, usual) ? small : usual, tiles, 1};
    if (!few) {
        const long bytes = job.input_pitch() + 4 * job.product_pitch(round_up(job.cout, VL));
        const long most = max_of(1L, piece_bytes / bytes / cut.pixels) * cut.pixels;
        cut.tiles = min_of(most, max_of(4L * cut.pixels, round_up(ceil_div(tiles, 64), cut.pixels)));
    }
    const long blocks = job.blocks.count();
    if (blocks == 1) cut.tiles = min_of(cut.tiles, round_up(ceil_div(tiles, least_pieces / 2), cut.pixels));
    const long wanted = ceil_div(least_pieces, ceil_div(tiles, cut.tiles));
    while (cut.spans < min_of(wanted, blocks) || blocks % cut.spans != 0) cut.spans++;
    return cut;
}

}  // namespace

// out <- in, packed (int8_pack of 16 groups), bias (int32) and factor by position and channel, offset, residual (or
// none); ints: sizes as conv.h's ConvShape, zero, residual_zero; reals: low, high, residual_factor.
void int8_winograd(const OpCall& call) {
    const long* s = call.ints;
    const auto at = [&](int i) { return static_cast<int>(s[i]); };
    const int tiles_y = static_cast<int>(ceil_div(s[7], 2)), tiles_x = static_cast<int>(ceil_div(s[8], 2));
    Job job{at(4),
            at(5),
            at(1),
            at(2),
            at(7),
            at(8),
            at(19),
            at(20),
            tiles_y,
            tiles_x,
            int8_blocks(at(2)),
            0,
            static_cast<const uint8_t*>(call.operand[1]),
            static_cast<const int8_t*>(call.operand[2]),
            static_cast<const int32_t*>(call.operand[3]),
            in(call, 4),
            in(call, 5),
            static_cast<const uint8_t*>(call.operand[6]),
            at(22),
            call.reals[2],
            rounding(call.reals[0], call.reals[1], at(21)),
            static_cast<uint8_t*>(call.operand[0])};
    const long tiles = call.n * tiles_y * tiles_x;
    const Cut cut = cut_of(job, tiles);
    job.pixels = cut.pixels;
    const long chunks = ceil_div(tiles, cut.tiles), blocks = job.blocks.count(), spans = cut.spans;
    parallel(chunks * spans, [&](long piece) {
        const long chunk = piece / spans, span = piece % spans;
        const long begin = tiles * chunk / chunks, end = tiles * (chunk + 1) / chunks;
        run_piece(job, {static_cast<int>(blocks * span / spans), static_cast<int>(blocks * (span + 1) / spans), begin,
                        end - begin});
    });
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
