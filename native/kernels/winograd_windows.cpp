// Images into matrices: windows of an input by Bt x B, and of a gradient by A dy At.
#include "kernels/winograd_basis.h"
#include "kernels/winograd_places.h"
#include "kernels/winograd_tiles.h"
#include "runtime/memory.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// Windows of `size` x `size` that lie side by side, m apart.
template <int size, class S>
struct Run {
    const S* row[size];  // at the first column of the first window; zeros above and below the image
    long pixel;          // bytes from one column to the next
    int x, width;        // the first column, which may be outside of the image; columns of the image
    long tiles;

    FOVEA_INLINE Run(const S* image, const int* extent, long channels, int y, int left, long count)
        : pixel(channels * static_cast<long>(sizeof(S))), x(left), width(extent[1]), tiles(count) {
        const long line = channels * extent[1];
        const S* first = image + y * line + left * channels;
        FOVEA_UNROLL
        for (int i = 0; i < size; i++)
            row[i] = static_cast<unsigned>(y + i) < static_cast<unsigned>(extent[0])
                         ? first + i * line
                         : reinterpret_cast<const S*>(zeros);
    }
};

// VL channels of a run (with `partial`, those of the mask) through Columns down the columns and T along the rows of
// each window. Windows that overlap share columns: what Columns made of these stays in registers for the next window.
template <int m, class Columns, class T, bool partial, class S>
FOVEA_INLINE void sweep(const Run<T::from, S>& run, long channel, Mask mask, float* to, const Matrices& matrices) {
    constexpr int size = T::from, shared = size - m;
    const long tile_stride = matrices.tile_stride, step = m * run.pixel;
    const Steps xi(matrices.xi_stride * static_cast<long>(sizeof(float)));
    const S* row[size];
    long at[size];  // bytes to the columns of a window
    FOVEA_UNROLL
    for (int i = 0; i < size; i++) {
        row[i] = run.row[i] + channel;
        at[i] = i * run.pixel;
    }
    Vec half[Columns::to][size];
    const auto take = [&](int j, bool inside) FOVEA_INLINE_LAMBDA {
        Vec in[size], out[Columns::to];
        FOVEA_UNROLL
        for (int i = 0; i < size; i++) {
            const S* from = reinterpret_cast<const S*>(reinterpret_cast<intptr_t>(row[i]) + at[j]);
            in[i] = !inside ? Vec{} : partial ? load(from, mask) : load(from);
        }
        Columns::run(in, out);
        FOVEA_UNROLL
        for (int i = 0; i < Columns::to; i++) half[i][j] = out[i];
    };
    const auto finish = [&]() FOVEA_INLINE_LAMBDA {
        float* line = to;
        FOVEA_UNROLL
        for (int i = 0; i < Columns::to; i++, line = xi.from(xi.from(line, 3), T::to - 3)) {
            Vec out[T::to];
            T::run(half[i], out);
            FOVEA_UNROLL
            for (int j = 0; j < T::to; j++) store(xi.from(line, j), out[j]);
            FOVEA_UNROLL
            for (int j = 0; j < shared; j++) half[i][j] = half[i][j + m];
        }
        FOVEA_UNROLL
        for (int j = 0; j < size; j++) at[j] += step;
        to += tile_stride;
    };
    const auto take_if_inside = [&](int j, int x) FOVEA_INLINE_LAMBDA {
        if (static_cast<unsigned>(x + j) < static_cast<unsigned>(run.width))
            take(j, true);
        else
            take(j, false);
    };
    FOVEA_UNROLL
    for (int j = 0; j < shared; j++) take_if_inside(j, run.x);
    long t = 0;
    const long whole = run.x + shared < 0 ? 0 : min_of<long>(run.tiles, (run.width - size - run.x + m) / m);
    for (; t < whole; t++) {
        FOVEA_UNROLL
        for (int j = shared; j < size; j++) take(j, true);
        finish();
    }
    int x = run.x + static_cast<int>(t) * m;
    if (t < run.tiles && x + shared >= 0 && x + size == run.width + 1) {
        FOVEA_UNROLL
        for (int j = shared; j < size; j++) take(j, j < size - 1);
        finish();
        t++;
        x += m;
    }
    for (; t < run.tiles; t++, x += m) {
        FOVEA_UNROLL
        for (int j = shared; j < size; j++) take_if_inside(j, x);
        finish();
    }
}

// A window of an input has more values than there are registers: half of the rows at a time, each value loaded twice,
// is faster than writing and reading what does not fit.
template <int m, bool partial, class S>
FOVEA_INLINE void sweeps(const Run<m + 2, S>& run, long channel, Mask mask, float* to, const Matrices& matrices,
                         typename Winograd<m>::Input) {
    using T = typename Winograd<m>::Input;
    sweep<m, HalfOf<T, false>, T, partial>(run, channel, mask, to, matrices);
    sweep<m, HalfOf<T, true>, T, partial>(run, channel, mask, to + T::to / 2 * T::to * matrices.xi_stride, matrices);
}

template <int m, bool partial, class S>
FOVEA_INLINE void sweeps(const Run<m, S>& run, long channel, Mask mask, float* to, const Matrices& matrices,
                         typename Winograd<m>::OutputAdjoint) {
    using T = typename Winograd<m>::OutputAdjoint;
    sweep<m, T, T, partial>(run, channel, mask, to, matrices);
}

// Channels of the tiles of a run: their windows stay in the first cache from the lower half to the upper one, and what
// is read as zeros ends before `zeros` does.
constexpr long run_channels = 1 << 8;

template <int m, class T, class S>
void windows(const TileGrid& g, const S* x, const int* extent, int channels, const int* pad, long first, long count,
             const Matrices& to) {
    const long image_floats = static_cast<long>(extent[0]) * extent[1] * channels;
    const long longest = max_of(1L, run_channels / channels);
    TilePlace place(g, m, first);
    float* data = to.data;
    while (count > 0) {
        const long tiles = min_of(min_of(count, longest), ceil_div(g.out[1] - place.x, m));
        const Run<T::from, S> run(x + place.image * image_floats, extent, channels, place.y - pad[0], place.x - pad[1],
                                  tiles);
        float* at = data;
        int c = 0;
        for (; c + VL <= channels; c += VL, at += to.vector_stride) sweeps<m, false>(run, c, Mask{}, at, to, T{});
        if (c < channels) sweeps<m, true>(run, c, first_lanes(channels - c), at, to, T{});
        data += tiles * to.tile_stride;
        count -= tiles;
        place.next(g, m, tiles);
    }
}

}  // namespace

template <class S>
void transform_inputs(int outputs, const TileGrid& grid, const S* x, long first, long count, const Matrices& to) {
    const auto run = outputs == 4 ? windows<4, Winograd<4>::Input, S> : windows<2, Winograd<2>::Input, S>;
    run(grid, x, grid.in, grid.cin, grid.pad, first, count, to);
}

template <class S>
void transform_gradients(int outputs, const TileGrid& grid, const S* grad_output, long first, long count,
                         const Matrices& to) {
    const int no_padding[2] = {0, 0};
    const auto run =
        outputs == 4 ? windows<4, Winograd<4>::OutputAdjoint, S> : windows<2, Winograd<2>::OutputAdjoint, S>;
    run(grid, grad_output, grid.out, grid.cout, no_padding, first, count, to);
}

#define FOVEA_STORED_AS(S)                                                                          \
    template void transform_inputs<S>(int, const TileGrid&, const S*, long, long, const Matrices&); \
    template void transform_gradients<S>(int, const TileGrid&, const S*, long, long, const Matrices&);
FOVEA_STORED_AS(float)
FOVEA_STORED_AS(bf16)
#undef FOVEA_STORED_AS

}  // namespace fovea::FOVEA_ISA_NAMESPACE
