// Pointer tables: which input pixels and outputs a tile touches. Two orders of walking the positions.
#pragma once
#include "kernels/tap_conv.h"
#include "kernels/tap_pack.h"
#include "kernels/tap_tile.h"
#include "runtime/memory.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

typedef long Lanes __attribute__((vector_size(64)));
typedef unsigned long LanesUnsigned __attribute__((vector_size(64)));
typedef long LanesUnaligned __attribute__((vector_size(64), aligned(8), may_alias));

static FOVEA_INLINE Lanes same(long x) { return x - Lanes{}; }
static FOVEA_INLINE long address(const void* p) { return reinterpret_cast<long>(p); }
static FOVEA_INLINE void put(void* p, Lanes v) { *reinterpret_cast<LanesUnaligned*>(p) = v; }

// For inputs and outputs stored as I and O. The strides of a TapConv count such elements.
template <class I, class O, int Taps, int TilePixels>
struct TileTableOf {
    using In = I;
    using Out = O;
    const In* in[Taps * TilePixels + 8];  // [tap][tile pixels]; the last store may run over
    Out* out[16];
    int panel_tap[Taps];
    int taps, pixels;
};
using TileTable = TileTableOf<float, float, max_step_taps, max_tile_pixels>;

// Neighbouring positions form a tile, across rows and images. Addresses are computed eight pixels at a time in vector
// registers: scalar stores followed by a vector load would wait for the previous tile's output stores (measured: 9 % of
// a layer). Pixels in the padding read from `padding`.
template <class Table>
class PixelWalkOf {
    using In = typename Table::In;
    using Out = typename Table::Out;
    static constexpr long in_size = sizeof(In), out_size = sizeof(Out);

  public:
    PixelWalkOf(const TapConv& c, int tile_pixels, const In* in, Out* out, const float* padding = zeros)
        : c_(c), width_(tile_pixels), padding_(address(padding)) {
        in_ = address(in);
        out_ = address(out + c.out_origin);
        const Lanes iota = {0, 1, 2, 3, 4, 5, 6, 7};
        for (int i = 0; i < 3; i++) limit_[i] = static_cast<long>(c.positions[i]) * c.step[i];
        lane_x_ = iota * c.step[2];
        lane_in_ = lane_x_ * (in_size * c.in_stride[2]);
        lane_out_ = iota * (out_size * c.out_stride[2]);
        // What a pointer gains when a lane leaves its row (plane, image) for the next one.
        turn_in_[2] = in_size * (c.step[1] * c.in_stride[1] - limit_[2] * c.in_stride[2]);
        turn_in_[1] = in_size * (c.step[0] * c.in_stride[0] - limit_[1] * c.in_stride[1]);
        turn_in_[0] = in_size * (c.in_image - limit_[0] * c.in_stride[0]);
        turn_out_[2] = out_size * (c.out_stride[1] - c.positions[2] * c.out_stride[2]);
        turn_out_[1] = out_size * (c.out_stride[0] - c.positions[1] * c.out_stride[1]);
        turn_out_[0] = out_size * (c.out_image - c.positions[0] * c.out_stride[0]);
        turns_[2] = (c.positions[2] - 1 + 15) / c.positions[2];
        turns_[1] = (c.positions[1] - 1 + turns_[2]) / c.positions[1];
        turns_[0] = (c.positions[0] - 1 + turns_[1]) / c.positions[0];
    }

    void seek(long tile) {
        const long flat = tile * width_, pixels = c_.position_count();
        image_ = flat / pixels;
        z_ = flat % pixels / c_.positions[2] / c_.positions[1];
        y_ = flat / c_.positions[2] % c_.positions[1];
        x_ = flat % c_.positions[2];
        left_ = c_.images * pixels - flat;
    }

    void fill(const Step& step, Table& table) {
        const int pixels = table.pixels = static_cast<int>(min_of<long>(width_, left_));
        table.taps = step.tap_end - step.tap_begin;
        const bool check = c_.checked || pixels < width_;
        const Lanes iota = {0, 1, 2, 3, 4, 5, 6, 7};
        Lanes x[2], y[2], z[2], in[2], out[2], alive[2];
        for (int h = 0; h < width_; h += 8) {
            const int i = h / 8;
            locate(h, x[i], y[i], z[i], in[i], out[i]);
            put(table.out + h, out[i]);
            alive[i] = iota + h < same(pixels);
        }
        for (int t = 0; t < table.taps; t++) {
            const Tap& tap = c_.taps[step.tap_begin + t];
            const long bytes = in_size * (tap.offset[0] * c_.in_stride[0] + tap.offset[1] * c_.in_stride[1] +
                                          tap.offset[2] * c_.in_stride[2]);
            for (int h = 0; h < width_; h += 8) {  // what is written past the tile is overwritten by the next tap
                const int i = h / 8;
                Lanes p = in[i] + bytes;
                if (check) {
                    Lanes ok = alive[i];
                    if (c_.checked)
                        ok &= inside(z[i] + tap.offset[0], 0) & inside(y[i] + tap.offset[1], 1) &
                              inside(x[i] + tap.offset[2], 2);
                    p = (p & ok) | (same(padding_) & ~ok);
                }
                put(table.in + t * width_ + h, p);
            }
        }
    }

    void next() {
        left_ -= width_;
        x_ += width_;
        while (x_ >= c_.positions[2]) {
            x_ -= c_.positions[2];
            if (++y_ < c_.positions[1]) continue;
            y_ = 0;
            if (++z_ < c_.positions[0]) continue;
            z_ = 0;
            image_++;
        }
    }

  private:
    Lanes inside(Lanes v, int axis) const { return (Lanes)((LanesUnsigned)v < (LanesUnsigned)same(c_.in[axis])); }

    // Input coordinates and addresses of pixels h .. h + 7 of the tile.
    FOVEA_INLINE void locate(int h, Lanes& x, Lanes& y, Lanes& z, Lanes& in, Lanes& out) const {
        const long x0 = (x_ + h) * c_.step[2], y0 = y_ * c_.step[1], z0 = z_ * c_.step[0];
        x = lane_x_ + x0;
        y = same(y0);
        z = same(z0);
        in = lane_in_ + (in_ + in_size * (image_ * c_.in_image + z0 * c_.in_stride[0] + y0 * c_.in_stride[1] +
                                          x0 * c_.in_stride[2]));
        out = lane_out_ + (out_ + out_size * (image_ * c_.out_image + z_ * c_.out_stride[0] + y_ * c_.out_stride[1] +
                                              (x_ + h) * c_.out_stride[2]));
        if (x_ + h + 7 < c_.positions[2]) return;
        for (int i = 0; i < turns_[2]; i++) {
            const Lanes turn = x >= same(limit_[2]);
            x -= turn & limit_[2];
            y += turn & static_cast<long>(c_.step[1]);
            in += turn & turn_in_[2];
            out += turn & turn_out_[2];
        }
        for (int i = 0; i < turns_[1]; i++) {
            const Lanes turn = y >= same(limit_[1]);
            y -= turn & limit_[1];
            z += turn & static_cast<long>(c_.step[0]);
            in += turn & turn_in_[1];
            out += turn & turn_out_[1];
        }
        for (int i = 0; i < turns_[0]; i++) {
            const Lanes turn = z >= same(limit_[0]);
            z -= turn & limit_[0];
            in += turn & turn_in_[0];
            out += turn & turn_out_[0];
        }
    }

    const TapConv& c_;
    const int width_;
    const long padding_;
    long in_, out_, image_ = 0, z_ = 0, y_ = 0, x_ = 0, left_ = 0;
    long limit_[3], turn_in_[3], turn_out_[3];
    int turns_[3];
    Lanes lane_x_, lane_in_, lane_out_;
};
using PixelWalk = PixelWalkOf<TileTable>;

// One position of several images forms a tile, so all its pixels meet the same taps, and those in the padding are
// skipped instead of multiplied by zeros (a 3x3 on 7x7 does 82 % of the work).
template <class Table>
class ImageWalkOf {
    using In = typename Table::In;
    using Out = typename Table::Out;
    static constexpr long in_size = sizeof(In), out_size = sizeof(Out);

  public:
    ImageWalkOf(const TapConv& c, int tile_pixels, const In* in, Out* out)
        : c_(c), width_(tile_pixels), in_(in), out_(out + c.out_origin) {}

    void seek(long tile) {
        const long tiles = ceil_div(c_.images, width_);
        image_ = tile % tiles * width_;
        const long position = tile / tiles;
        z_ = position / c_.positions[2] / c_.positions[1];
        y_ = position / c_.positions[2] % c_.positions[1];
        x_ = position % c_.positions[2];
    }

    void fill(const Step& step, Table& table) {
        table.pixels = static_cast<int>(min_of<long>(width_, c_.images - image_));
        table.taps = 0;
        Lanes in[2], out[2];
        for (int h = 0; h < width_; h += 8) {
            const Lanes lane = {0, 1, 2, 3, 4, 5, 6, 7};
            const Lanes last = same(c_.images - 1), over = lane + (image_ + h) > last;
            const Lanes image =
                ((lane + (image_ + h)) & ~over) | (last & over);  // pixels without an image repeat the last
            in[h / 8] = image * (in_size * c_.in_image);
            out[h / 8] = image * (out_size * c_.out_image);
            put(table.out + h,
                out[h / 8] + address(out_ + z_ * c_.out_stride[0] + y_ * c_.out_stride[1] + x_ * c_.out_stride[2]));
        }
        for (int t = step.tap_begin; t < step.tap_end; t++) {
            const long z = z_ * c_.step[0] + c_.taps[t].offset[0], y = y_ * c_.step[1] + c_.taps[t].offset[1],
                       x = x_ * c_.step[2] + c_.taps[t].offset[2];
            if (z < 0 || z >= c_.in[0] || y < 0 || y >= c_.in[1] || x < 0 || x >= c_.in[2]) continue;
            const long pixel = address(in_ + z * c_.in_stride[0] + y * c_.in_stride[1] + x * c_.in_stride[2]);
            for (int h = 0; h < width_; h += 8) put(table.in + table.taps * width_ + h, in[h / 8] + pixel);
            table.panel_tap[table.taps++] = t - step.tap_begin;
        }
    }

    void next() {
        image_ += width_;
        if (image_ < c_.images) return;
        image_ = 0;
        if (++x_ < c_.positions[2]) return;
        x_ = 0;
        if (++y_ < c_.positions[1]) return;
        y_ = 0;
        z_++;
    }

  private:
    const TapConv& c_;
    const int width_;
    const In* in_;
    Out* out_;
    long image_ = 0, z_ = 0, y_ = 0, x_ = 0;
};
using ImageWalk = ImageWalkOf<TileTable>;

}  // namespace fovea::FOVEA_ISA_NAMESPACE
