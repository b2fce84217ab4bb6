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

// Tiles step over memory in strides that hardware prefetching follows badly: asking for what the tile after next adds,
// 16 channels at a time, gains 3 to 10 %. Prefetching beyond an array does no harm.
constexpr int tiles_ahead = 2;

// A size x size window of one image, at the first channel: every row has an address (zeros outside of the image), and
// `inside` says which columns lie in the image.
template <int size, class S>
struct Window {
    const S* row[size];
    bool inside[size];
    bool cut;  // some column is outside

    FOVEA_INLINE Window(const S* image, const int* extent, long channels, int y, int x) {
        const long line = channels * extent[1];
        const S* first = image + y * line + x * channels;
        FOVEA_UNROLL
        for (int i = 0; i < size; i++)
            row[i] = static_cast<unsigned>(y + i) < static_cast<unsigned>(extent[0])
                         ? first + i * line
                         : reinterpret_cast<const S*>(zeros);
        FOVEA_UNROLL
        for (int j = 0; j < size; j++) inside[j] = static_cast<unsigned>(x + j) < static_cast<unsigned>(extent[1]);
        cut = x < 0 || x + size > extent[1];
    }
};

// VL channels of a window; with `cut`, of `lanes` channels, and 0 in columns that are outside.
template <int size, bool cut, class S>
struct Reader {
    const S* const* row;
    long channels;
    Mask mask[size];

    FOVEA_INLINE Reader(const Window<size, S>& window, const S* const* at, long stride, long lanes)
        : row(at), channels(stride) {
        if (cut) FOVEA_UNROLL
        for (int j = 0; j < size; j++) mask[j] = first_lanes(window.inside[j] ? lanes : 0);
    }
    FOVEA_INLINE Vec operator()(int i, int j) const {
        return cut ? load(row[i] + j * channels, mask[j]) : load(row[i] + j * channels);
    }
};

// The (m + 2)^2 values of an input window need more registers than there are: half of the rows at a time, each value
// loaded twice, is faster than writing and reading what does not fit.
template <int m, class Get>
FOVEA_INLINE void transform_window(const Get& get, typename Winograd<m>::Input, float* to, long xi_stride) {
    using T = typename Winograd<m>::Input;
    constexpr int half = T::to / 2;
    transform_2d<HalfOf<T, false>, T>(
        get, [&](int i, int j, Vec v) FOVEA_INLINE_LAMBDA { store(to + (i * T::to + j) * xi_stride, v); });
    transform_2d<HalfOf<T, true>, T>(
        get, [&](int i, int j, Vec v) FOVEA_INLINE_LAMBDA { store(to + ((half + i) * T::to + j) * xi_stride, v); });
}

template <int m, class Get>
FOVEA_INLINE void transform_window(const Get& get, typename Winograd<m>::OutputAdjoint, float* to, long xi_stride) {
    using T = typename Winograd<m>::OutputAdjoint;
    transform_2d<T>(get, [&](int i, int j, Vec v) FOVEA_INLINE_LAMBDA { store(to + (i * T::to + j) * xi_stride, v); });
}

// All channels of a window through T into its places in the matrices.
template <int m, class T, bool cut, class S>
FOVEA_INLINE void all_channels(const Window<T::from, S>& window, int channels, float* to, const Matrices& matrices) {
    const S* row[T::from];
    FOVEA_UNROLL
    for (int i = 0; i < T::from; i++) row[i] = window.row[i];
    const long ahead = static_cast<long>(tiles_ahead) * m * channels;
    for (int c = 0; c < channels; c += VL, to += matrices.vector_stride) {
        if (c % 16 == 0) {
            FOVEA_UNROLL
            for (int i = 0; i < T::from; i++) FOVEA_UNROLL
            for (int j = 0; j < m; j++) __builtin_prefetch(row[i] + j * channels + ahead);
        }
        transform_window<m>(Reader<T::from, cut, S>(window, row, channels, channels - c), T{}, to, matrices.xi_stride);
        FOVEA_UNROLL
        for (int i = 0; i < T::from; i++) row[i] += VL;
    }
}

template <int m, class T, class S>
void windows(const TileGrid& g, const S* x, const int* extent, int channels, const int* pad, long first, long count,
             const Matrices& to) {
    const long image_floats = static_cast<long>(extent[0]) * extent[1] * channels;
    TilePlace place(g, m, first);
    for (long t = 0; t < count; t++, place.next(g, m)) {
        const Window<T::from, S> window(x + place.image * image_floats, extent, channels, place.y - pad[0],
                                        place.x - pad[1]);
        float* at = to.data + t * to.tile_stride;
        if (window.cut || channels % VL != 0)
            all_channels<m, T, true, S>(window, channels, at, to);
        else
            all_channels<m, T, false, S>(window, channels, at, to);
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
    const auto run = outputs == 4 ? windows<4, Winograd<4>::Input, S> : windows<2, Winograd<2>::Input, S>;
    run(grid, x, grid.in, grid.cin, grid.pad, first, count, to);
}

template <class S>
void transform_products(int outputs, const TileGrid& grid, const Matrices& from, long first, long count, int channel,
                        int channels, S* y, const Epilogue& epilogue) {
    (outputs == 4 ? products<4, S> : products<2, S>)(grid, from, first, count, channel, channels, y, epilogue);
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

template <class S>
void transform_gradients(int outputs, const TileGrid& grid, const S* grad_output, long first, long count,
                         const Matrices& to) {
    const int no_padding[2] = {0, 0};
    const auto run =
        outputs == 4 ? windows<4, Winograd<4>::OutputAdjoint, S> : windows<2, Winograd<2>::OutputAdjoint, S>;
    run(grid, grad_output, grid.out, grid.cout, no_padding, first, count, to);
}

#define FOVEA_STORED_AS(S)                                                                               \
    template void transform_inputs<S>(int, const TileGrid&, const S*, long, long, const Matrices&);      \
    template void prefetch_pixels<S>(int, const TileGrid&, const int*, int, long, long, const S*);       \
    template void transform_gradients<S>(int, const TileGrid&, const S*, long, long, const Matrices&);   \
    template void transform_products<S>(int, const TileGrid&, const Matrices&, long, long, int, int, S*, \
                                        const Epilogue&);
FOVEA_STORED_AS(float)
FOVEA_STORED_AS(bf16)
#undef FOVEA_STORED_AS

}  // namespace fovea::FOVEA_ISA_NAMESPACE
