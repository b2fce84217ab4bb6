#include "kernels/winograd_tiles.h"

#include "kernels/winograd_basis.h"
#include "runtime/memory.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// Walks the tiles of a grid in order.
struct TilePlace {
    long image;
    int y, x;  // first output

    TilePlace(const TileGrid& g, int m, long tile)
        : image(tile / g.per_image),
          y(static_cast<int>(tile % g.per_image) / g.across * m),
          x(static_cast<int>(tile % g.per_image) % g.across * m) {}

    FOVEA_INLINE void next(const TileGrid& g, int m) {
        x += m;
        if (x < g.out[1]) return;
        x = 0;
        y += m;
        if (y < g.out[0]) return;
        y = 0;
        image++;
    }
};

typedef long Lanes __attribute__((vector_size(64)));
typedef long LanesUnaligned __attribute__((vector_size(64), aligned(8), may_alias));
constexpr int window_row = 8;  // addresses of a row of the window, in one vector

// Addresses of the pixels of a size x size window of one image, size <= 8; those outside read zeros.
template <int size, class S>
FOVEA_INLINE void window(const S* image, const int* extent, long channels, int y, int x, const S** at) {
    constexpr long element = sizeof(S);
    const Lanes column = Lanes{0, 1, 2, 3, 4, 5, 6, 7} + static_cast<long>(x);
    const Lanes outside = reinterpret_cast<long>(zeros) - Lanes{};
    const Lanes inside = (column >= 0) & (column < static_cast<long>(extent[1]));
    const Lanes offset = reinterpret_cast<long>(image) + column * (element * channels);
    const long row = element * channels * extent[1];
    FOVEA_UNROLL
    for (int i = 0; i < size; i++) {
        const bool valid = static_cast<unsigned>(y + i) < static_cast<unsigned>(extent[0]);
        const Lanes address = valid ? ((offset + (y + i) * row) & inside) | (outside & ~inside) : outside;
        *reinterpret_cast<LanesUnaligned*>(at + i * window_row) = address;
    }
}

// Tiles step over memory in strides that hardware prefetching follows badly: asking for what the tile after next adds,
// 16 channels at a time, gains 3 to 10 %. Prefetching beyond an array does no harm.
constexpr int tiles_ahead = 2;

// One window through T into its places in the matrices.
template <int m, class T, class S>
FOVEA_INLINE void transform_window(const S* const* at, int channels, float* to, const Matrices& matrices) {
    const auto put = [&](int i, int j, Vec v)
                         FOVEA_INLINE_LAMBDA { store(to + (i * T::to + j) * matrices.xi_stride, v); };
    const long ahead = static_cast<long>(tiles_ahead) * m * channels;
    int c = 0;
    for (; c + VL <= channels; c += VL, to += matrices.vector_stride) {
        if (c % 16 == 0) {
            FOVEA_UNROLL
            for (int i = 0; i < T::from; i++) FOVEA_UNROLL
            for (int j = 0; j < m; j++) __builtin_prefetch(at[i * window_row + j] + c + ahead);
        }
        transform_2d<T>([&](int i, int j) FOVEA_INLINE_LAMBDA { return load(at[i * window_row + j] + c); }, put);
    }
    if (c == channels) return;
    const Mask mask = first_lanes(channels - c);
    transform_2d<T>([&](int i, int j) FOVEA_INLINE_LAMBDA { return load(at[i * window_row + j] + c, mask); }, put);
}

template <int m, class S>
void inputs(const TileGrid& g, const S* x, long first, long count, const Matrices& to) {
    constexpr int a = m + 2;
    const long image_floats = static_cast<long>(g.in[0]) * g.in[1] * g.cin;
    TilePlace place(g, m, first);
    for (long t = 0; t < count; t++, place.next(g, m)) {
        const S* at[a * window_row];
        window<a>(x + place.image * image_floats, g.in, g.cin, place.y - g.pad[0], place.x - g.pad[1], at);
        transform_window<m, typename Winograd<m>::Input>(at, g.cin, to.data + t * to.tile_stride, to);
    }
}

template <int m, class S>
void gradients(const TileGrid& g, const S* grad_output, long first, long count, const Matrices& to) {
    const long image_floats = static_cast<long>(g.out[0]) * g.out[1] * g.cout;
    TilePlace place(g, m, first);
    for (long t = 0; t < count; t++, place.next(g, m)) {
        const S* at[m * window_row];
        window<m>(grad_output + place.image * image_floats, g.out, g.cout, place.y, place.x, at);
        transform_window<m, typename Winograd<m>::OutputAdjoint>(at, g.cout, to.data + t * to.tile_stride, to);
    }
}

struct Finish {
    bool clamp;
    Vec low, high, bias;

    FOVEA_INLINE Vec operator()(Vec v) const {
        v += bias;
        return clamp ? at_most(at_least(v, low), high) : v;
    }
};

template <int m, class S>
void products(const TileGrid& g, const Matrices& from, long first, long count, int channel, int channels, S* y,
              const Epilogue& e) {
    using T = typename Winograd<m>::Output;
    const long row = static_cast<long>(g.out[1]) * g.cout, image_floats = row * g.out[0];
    const float* bias = e.bias ? e.bias + channel : nullptr;
    Finish finish{e.clamp, broadcast(e.low), broadcast(e.high), {}};
    TilePlace place(g, m, first);
    for (long t = 0; t < count; t++, place.next(g, m)) {
        S* to = y + place.image * image_floats + place.y * row + static_cast<long>(place.x) * g.cout + channel;
        const float* p = from.data + t * from.tile_stride;
        const int rows = min_of(m, g.out[0] - place.y), columns = min_of(m, g.out[1] - place.x);
        const auto get = [&](int i, int j) FOVEA_INLINE_LAMBDA { return load(p + (i * T::from + j) * from.xi_stride); };
        for (int c = 0; c < channels; c += VL, p += from.vector_stride, to += VL) {
            const Mask mask = first_lanes(channels - c);
            if (c % 16 == 0) {
                FOVEA_UNROLL
                for (int i = 0; i < m; i++) FOVEA_UNROLL
                for (int j = 0; j < m; j++) __builtin_prefetch(to + i * row + (j + tiles_ahead * m) * g.cout, 1);
            }
            finish.bias = bias ? load(bias + c, mask) : Vec{};
            if (rows == m && columns == m && c + VL <= channels)
                transform_2d<T>(
                    get, [&](int i, int j, Vec v) FOVEA_INLINE_LAMBDA { store(to + i * row + j * g.cout, finish(v)); });
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
void transform_inputs(int outputs, const TileGrid& grid, const S* x, long first, long count, const Matrices& to) {
    (outputs == 4 ? inputs<4, S> : inputs<2, S>)(grid, x, first, count, to);
}

template <class S>
void transform_products(int outputs, const TileGrid& grid, const Matrices& from, long first, long count, int channel,
                        int channels, S* y, const Epilogue& epilogue) {
    (outputs == 4 ? products<4, S> : products<2, S>)(grid, from, first, count, channel, channels, y, epilogue);
}

template <class S>
void transform_gradients(int outputs, const TileGrid& grid, const S* grad_output, long first, long count,
                         const Matrices& to) {
    (outputs == 4 ? gradients<4, S> : gradients<2, S>)(grid, grad_output, first, count, to);
}

#define FOVEA_STORED_AS(S)                                                                               \
    template void transform_inputs<S>(int, const TileGrid&, const S*, long, long, const Matrices&);      \
    template void transform_gradients<S>(int, const TileGrid&, const S*, long, long, const Matrices&);   \
    template void transform_products<S>(int, const TileGrid&, const Matrices&, long, long, int, int, S*, \
                                        const Epilogue&);
FOVEA_STORED_AS(float)
FOVEA_STORED_AS(bf16)
#undef FOVEA_STORED_AS

}  // namespace fovea::FOVEA_ISA_NAMESPACE
