#include "kernels/winograd_tiles.h"

#include "kernels/winograd_basis.h"
#include "kernels/winograd_places.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// What follows a sum: bias and clamp, or nothing.
template <bool plain>
struct Finish {
    Vec low, high, bias;

    FOVEA_INLINE Vec operator()(Vec v) const { return plain ? v : at_most(at_least(v + bias, low), high); }
};

template <int m, bool plain, class S>
void products(const TileGrid& g, const Matrices& from, long first, long count, int channel, int channels, S* y,
              const Epilogue& e) {
    using T = typename Winograd<m>::Output;
    const long row = static_cast<long>(g.out[1]) * g.cout, image_floats = row * g.out[0];
    const long xi_stride = from.xi_stride, vector_stride = from.vector_stride;
    const Steps xi_rows(xi_stride * static_cast<long>(T::from * sizeof(float)));
    const Steps pixels(g.cout * static_cast<long>(sizeof(S)));
    const float* bias = e.bias ? e.bias + channel : nullptr;
    Finish<plain> finish{
        broadcast(e.clamp ? e.low : -__builtin_inff()), broadcast(e.clamp ? e.high : __builtin_inff()), {}};
    TilePlace place(g, m, first);
    for (long t = 0; t < count; t++, place.next(g, m)) {
        S* to = y + place.image * image_floats + place.y * row + static_cast<long>(place.x) * g.cout + channel;
        const float* p = from.data + t * from.tile_stride;
        const int rows = min_of(m, g.out[0] - place.y), columns = min_of(m, g.out[1] - place.x);
        const auto get = [&](int i, int j) FOVEA_INLINE_LAMBDA { return load(xi_rows.from(p + j * xi_stride, i)); };
        for (int c = 0; c < channels; c += VL, p += vector_stride, to += VL) {
            const Mask mask = first_lanes(channels - c);
            if (!plain) finish.bias = bias ? load(bias + c, mask) : Vec{};
            if (rows == m && columns == m && c + VL <= channels)
                transform_2d<T>(get, [&](int i, int j, Vec v)
                                         FOVEA_INLINE_LAMBDA { store(pixels.from(to + i * row, j), finish(v)); });
            else
                transform_2d<T>(get, [&](int i, int j, Vec v) FOVEA_INLINE_LAMBDA {
                    if (i < rows && j < columns) store(to + i * row + j * g.cout, finish(v), mask);
                });
        }
    }
}

}  // namespace

TileGrid::TileGrid(const ConvShape& shape, int outputs, int n)
    : in{shape.in[1], shape.in[2]},
      out{shape.out[1], shape.out[2]},
      pad{shape.pad_lo[1], shape.pad_lo[2]},
      cin(shape.cin),
      cout(shape.cout),
      across(static_cast<int>(ceil_div(shape.out[2], outputs))),
      per_image(static_cast<int>(ceil_div(shape.out[1], outputs)) * across),
      tiles(static_cast<long>(n) * per_image) {}

template <class S>
void transform_products(int outputs, const TileGrid& grid, const Matrices& from, long first, long count, int channel,
                        int channels, S* y, const Epilogue& epilogue) {
    const bool plain = !epilogue.bias && !epilogue.clamp;
    const auto run = outputs == 4 ? (plain ? products<4, true, S> : products<4, false, S>)
                                  : (plain ? products<2, true, S> : products<2, false, S>);
    run(grid, from, first, count, channel, channels, y, epilogue);
}

template <class S>
void prefetch_pixels(int outputs, const TileGrid& grid, const int* extent, int channels, long first, long count,
                     const S* pixels) {
    constexpr long line = 64 / sizeof(S);
    const long row = static_cast<long>(extent[1]) * channels, image_floats = row * extent[0];
    TilePlace place(grid, outputs, first);
    for (long t = 0; t < count; t++, place.next(grid, outputs)) {
        const S* at = pixels + place.image * image_floats + place.y * row + static_cast<long>(place.x) * channels;
        const long floats = static_cast<long>(min_of(outputs, extent[1] - place.x)) * channels;
        for (int i = 0; i < min_of(outputs, extent[0] - place.y); i++, at += row)
            for (long k = 0; k < floats; k += line) __builtin_prefetch(at + k, 1, 2);
    }
}

#define FOVEA_STORED_AS(S)                                                                               \
    template void prefetch_pixels<S>(int, const TileGrid&, const int*, int, long, long, const S*);       \
    template void transform_products<S>(int, const TileGrid&, const Matrices&, long, long, int, int, S*, \
                                        const Epilogue&);
FOVEA_STORED_AS(float)
FOVEA_STORED_AS(bf16)
#undef FOVEA_STORED_AS

}  // namespace fovea::FOVEA_ISA_NAMESPACE
