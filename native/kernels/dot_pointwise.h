// Pointwise convolutions in bf16 as parts of fused kernels.
#pragma once
#include "kernels/conv.h"
#include "kernels/dot_bf16_interleave.h"
#include "kernels/dot_bf16_pack.h"
#include "kernels/dot_bf16_tile.h"
#include "kernels/dot_bf16_weight_tile.h"
#include "kernels/weight_tile.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

// A pointwise convolution of neighbouring pixels, on the calling thread, with weights packed for it. Backward data is
// one, too: its depth are the outputs.
class PairPointwise {
  public:
    PairPointwise(int depth, int columns, const void* packed, const Epilogue& epilogue)
        : packed_(static_cast<const Pair*>(packed)), tile_(choose_pair_tile(columns, many, depth)), columns_(columns) {
        conv_.groups = conv_.merged = conv_.tap_count = 1;
        conv_.depth = depth;
        conv_.columns = columns;
        conv_.taps[0].weight = 0;
        layout_ = pair_layout(conv_, tile_.vectors);
        args_ = {in_, 0, 1, depth,         nullptr,        panel_tap_,   out_,         nullptr,
                 0,   0, 0, epilogue.bias, epilogue.clamp, epilogue.low, epilogue.high};
    }
    PairPointwise(const PairPointwise&) = delete;
    PairPointwise& operator=(const PairPointwise&) = delete;

    long packed_floats() const { return layout_.pairs(conv_); }
    // transposed: the weights are [columns][depth].
    void pack(const float* weight, bool transposed, void* packed) const {
        ConvShape shape{};
        shape.groups = 1;
        shape.cin = transposed ? columns_ : conv_.depth;
        shape.cout = transposed ? conv_.depth : columns_;
        pack_pairs(shape, transposed, conv_, layout_, weight, static_cast<Pair*>(packed));
    }

    // to: pixels of `columns` channels; residual: null, or what is added to them.
    void run(const bf16* from, long stride, long pixels, bf16* to, const bf16* residual) {
        args_.residual = residual ? residual_ : nullptr;
        over_tiles(from, stride, pixels, tile_.run, [&](long pixel, int i) {
            out_[i] = to + pixel * columns_;
            residual_[i] = residual + (residual ? pixel * columns_ : 0);
        });
    }
    // As Pointwise's; nothing is fetched ahead.
    void run(const bf16* from, long pixels, bf16* to, const bf16* = nullptr) {
        run(from, conv_.depth, pixels, to, static_cast<const bf16*>(nullptr));
    }
    // Pixels of rows of `width`, which is even where there are several; pair(row, i): where a pair of pixels goes.
    template <class PairAt>
    void run_interleaved(const bf16* from, long pixels, int width, const PairAt& pair) {
        int row = 0, x = 0;
        over_tiles(from, conv_.depth, pixels, tile_.run_interleaved, [&](long, int i) {
            if (i % 2) return;
            out_[i / 2] = pair(row, x / 2);
            x += 2;
            if (x < width) return;
            x = 0;
            row++;
        });
    }

  private:
    static constexpr long many = 1000;  // pixels; the tile must not depend on the band

    // Pixels that a tile lacks read the last one and are not written.
    template <class Place>
    FOVEA_INLINE void over_tiles(const bf16* from, long stride, long pixels, void (*run)(const PairTileArgs&),
                                 const Place& place) {
        for (long at = 0; at < pixels; at += tile_.pixels) {
            args_.pixels = static_cast<int>(min_of<long>(tile_.pixels, pixels - at));
            for (int i = 0; i < tile_.pixels; i++) {
                in_[i] = from + min_of(at + i, pixels - 1) * stride;
                if (i < args_.pixels) place(at + i, i);
            }
            args_.panel = packed_;
            for (int column = 0; column < columns_; column += layout_.width, args_.panel += layout_.block_pairs) {
                args_.column = column;
                args_.columns = min_of(layout_.width, columns_ - column);
                run(args_);
            }
        }
    }

    const Pair* packed_;
    const PairTile tile_;
    const int columns_;
    TapConv conv_;
    PairLayout layout_;
    const int panel_tap_[1] = {0};
    const bf16 *in_[max_pair_tile_pixels], *residual_[max_pair_tile_pixels];
    void* out_[max_pair_tile_pixels];
    PairTileArgs args_;
};

// Forward, backward data and backward weight of a run of pixels: PointwiseMath in bf16.
struct PairPointwiseMath {
    using Stored = bf16;
    using Convolution = PairPointwise;

    static long room(int cin, int cout, long pixels) { return x_pairs(cin, pixels) + dy_pairs(cout, pixels); }
    // Both operands are copied with pixel i beside pixel i + half.
    static void add_products(const bf16* x, int cin, const bf16* dy, int cout, long pixels, const Ahead<bf16>&,
                             float* room, float* out) {
        const long half = ceil_div(pixels, 2), second = pixels - half;
        const int vectors = pair_weight_vectors(cout), width = vectors * VL,
                  dy_pixel = static_cast<int>(round_up(cout, width));
        Pair *x_copy = reinterpret_cast<Pair*>(room), *dy_copy = x_copy + x_pairs(cin, pixels);
        interleave_run(x, x + half * cin, true, second * cin, x_copy);
        interleave_run(x + second * cin, x, false, (half - second) * cin, x_copy + second * cin);
        interleave_pixels(dy, dy + half * cout, cout, half, second, cout, dy_pixel, dy_copy);
        PairWeightArgs a{};
        for (int i = 0; i < 4; i++) a.count[i] = 1;
        a.count[3] = static_cast<int>(half);
        a.x_stride[3] = cin;
        a.dy_stride[3] = dy_pixel;
        a.out_row = cout;
        a.accumulate = true;
        const int tiles = static_cast<int>(ceil_div(cin, pair_weight_rows(vectors)));
        for (int column = 0; column < cout; column += width) {
            a.columns = min_of(width, cout - column);
            a.dy = dy_copy + column;
            for (int tile = 0; tile < tiles; tile++) {
                const int row = cin * tile / tiles, rows = cin * (tile + 1) / tiles - row;
                a.x = x_copy + row;
                a.out = out + static_cast<long>(row) * cout + column;
                find_pair_weight_tile(rows, vectors)(a);
            }
        }
    }

  private:
    static long x_pairs(int cin, long pixels) { return round_up(ceil_div(pixels, 2) * cin, 16); }
    static long dy_pairs(int cout, long pixels) {
        return ceil_div(pixels, 2) * round_up(cout, pair_weight_vectors(cout) * VL);
    }
};

}  // namespace fovea::FOVEA_ISA_NAMESPACE
