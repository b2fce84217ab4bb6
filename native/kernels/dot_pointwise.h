// Pointwise convolutions in bf16 as parts of fused kernels.
#pragma once
#include "kernels/conv.h"
#include "kernels/dot_bf16_pack.h"
#include "kernels/dot_bf16_tile.h"

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

    long packed_pairs() const { return layout_.pairs(conv_); }
    // transposed: the weights are [columns][depth].
    void pack(const float* weight, bool transposed, Pair* packed) const {
        ConvShape shape{};
        shape.groups = 1;
        shape.cin = transposed ? columns_ : conv_.depth;
        shape.cout = transposed ? conv_.depth : columns_;
        pack_pairs(shape, transposed, conv_, layout_, weight, packed);
    }

    // to: pixels of `columns` channels; residual: null, or what is added to them.
    void run(const bf16* from, long stride, long pixels, bf16* to, const bf16* residual) {
        args_.residual = residual ? residual_ : nullptr;
        over_tiles(from, stride, pixels, tile_.run, [&](long pixel, int i) {
            out_[i] = to + pixel * columns_;
            residual_[i] = residual + (residual ? pixel * columns_ : 0);
        });
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

}  // namespace fovea::FOVEA_ISA_NAMESPACE
