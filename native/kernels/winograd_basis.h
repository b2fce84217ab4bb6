// The one-dimensional transforms of F(m, 3): m outputs of a three-tap filter from a = m + 2 products. With Bt, G, At
// the matrices of Toom-Cook interpolation (Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016),
//   y = At ((G g) * (Bt d))   and, differentiated,   dg = Gt ((Bt d) * (A dy)).
// In two dimensions each is applied along the columns, then along the rows.
#pragma once
#include "kernels/vec.h"

// A lambda called once per element of an unrolled loop would not be inlined by itself.
#define FOVEA_INLINE_LAMBDA __attribute__((always_inline))

namespace fovea::FOVEA_ISA_NAMESPACE {

template <int m>
struct Winograd;

// Interpolation points 0, 1, -1, infinity: additions alone, as accurate as the direct sum.
template <>
struct Winograd<2> {
    struct Input {  // Bt
        static constexpr int from = 4, to = 4;
        static FOVEA_INLINE void lower(const Vec* d, Vec* o) {
            o[0] = d[0] - d[2];
            o[1] = d[1] + d[2];
        }
        static FOVEA_INLINE void upper(const Vec* d, Vec* o) {
            o[0] = d[2] - d[1];
            o[1] = d[1] - d[3];
        }
        static FOVEA_INLINE void run(const Vec* d, Vec* o) {
            lower(d, o);
            upper(d, o + 2);
        }
    };
    struct Output {  // At
        static constexpr int from = 4, to = 2;
        static FOVEA_INLINE void run(const Vec* p, Vec* o) {
            o[0] = p[0] + p[1] + p[2];
            o[1] = p[1] - p[2] - p[3];
        }
    };
    struct OutputAdjoint {  // A
        static constexpr int from = 2, to = 4;
        static FOVEA_INLINE void run(const Vec* y, Vec* o) {
            o[0] = y[0];
            o[1] = y[0] + y[1];
            o[2] = y[0] - y[1];
            o[3] = -y[1];
        }
    };
    struct Weight {  // G
        static constexpr int from = 3, to = 4;
        static FOVEA_INLINE void run(const Vec* g, Vec* o) {
            const Vec even = 0.5f * (g[0] + g[2]), odd = 0.5f * g[1];
            o[0] = g[0];
            o[1] = even + odd;
            o[2] = even - odd;
            o[3] = g[2];
        }
    };
    struct WeightAdjoint {  // Gt
        static constexpr int from = 4, to = 3;
        static FOVEA_INLINE void run(const Vec* u, Vec* o) {
            const Vec even = 0.5f * (u[1] + u[2]);
            o[0] = u[0] + even;
            o[1] = 0.5f * (u[1] - u[2]);
            o[2] = even + u[3];
        }
    };
};

// Interpolation points 0, +-p, +-q, infinity. With the usual p, q = 1, 2 the rounding error is more than twice as
// large: products of powers of points near 1 in magnitude, on both sides of it, cancel least. 5/8 and 3/2 and all
// products of them below are exact in float32.
template <>
struct Winograd<4> {
    static constexpr float p = 0.625f, q = 1.5f, pp = p * p, qq = q * q;
    static constexpr float scale_0 = 1 / (pp * qq), scale_p = 1 / (2 * pp * (pp - qq)),
                           scale_q = 1 / (2 * qq * (qq - pp));

    struct Input {
        static constexpr int from = 6, to = 6;
        static FOVEA_INLINE void lower(const Vec* d, Vec* o) {
            const Vec even_p = d[4] - qq * d[2], odd_p = d[3] - qq * d[1];
            o[0] = (pp * qq) * d[0] + (d[4] - (pp + qq) * d[2]);
            o[1] = even_p + p * odd_p;
            o[2] = even_p - p * odd_p;
        }
        static FOVEA_INLINE void upper(const Vec* d, Vec* o) {
            const Vec even_q = d[4] - pp * d[2], odd_q = d[3] - pp * d[1];
            o[0] = even_q + q * odd_q;
            o[1] = even_q - q * odd_q;
            o[2] = (pp * qq) * d[1] + (d[5] - (pp + qq) * d[3]);
        }
        static FOVEA_INLINE void run(const Vec* d, Vec* o) {
            lower(d, o);
            upper(d, o + 3);
        }
    };
    struct Output {
        static constexpr int from = 6, to = 4;
        static FOVEA_INLINE void run(const Vec* m, Vec* o) {
            const Vec even_p = m[1] + m[2], odd_p = m[1] - m[2], even_q = m[3] + m[4], odd_q = m[3] - m[4];
            o[0] = m[0] + even_p + even_q;
            o[1] = p * odd_p + q * odd_q;
            o[2] = pp * even_p + qq * even_q;
            o[3] = (p * pp) * odd_p + ((q * qq) * odd_q + m[5]);
        }
    };
    struct OutputAdjoint {
        static constexpr int from = 4, to = 6;
        static FOVEA_INLINE void run(const Vec* y, Vec* o) {
            const Vec even_p = y[0] + pp * y[2], odd_p = y[1] + pp * y[3];
            const Vec even_q = y[0] + qq * y[2], odd_q = y[1] + qq * y[3];
            o[0] = y[0];
            o[1] = even_p + p * odd_p;
            o[2] = even_p - p * odd_p;
            o[3] = even_q + q * odd_q;
            o[4] = even_q - q * odd_q;
            o[5] = y[3];
        }
    };
    struct Weight {
        static constexpr int from = 3, to = 6;
        static FOVEA_INLINE void run(const Vec* g, Vec* o) {
            const Vec even_p = scale_p * (g[0] + pp * g[2]), odd_p = (scale_p * p) * g[1];
            const Vec even_q = scale_q * (g[0] + qq * g[2]), odd_q = (scale_q * q) * g[1];
            o[0] = scale_0 * g[0];
            o[1] = even_p + odd_p;
            o[2] = even_p - odd_p;
            o[3] = even_q + odd_q;
            o[4] = even_q - odd_q;
            o[5] = g[2];
        }
    };
    struct WeightAdjoint {
        static constexpr int from = 6, to = 3;
        static FOVEA_INLINE void run(const Vec* u, Vec* o) {
            const Vec even_p = scale_p * (u[1] + u[2]), odd_p = scale_p * (u[1] - u[2]);
            const Vec even_q = scale_q * (u[3] + u[4]), odd_q = scale_q * (u[3] - u[4]);
            o[0] = scale_0 * u[0] + (even_p + even_q);
            o[1] = p * odd_p + q * odd_q;
            o[2] = pp * even_p + (qq * even_q + u[5]);
        }
    };
};

// One half of an Input transform.
template <class Input, bool is_upper>
struct HalfOf {
    static constexpr int from = Input::from, to = Input::to / 2;
    static FOVEA_INLINE void run(const Vec* d, Vec* o) {
        if (is_upper)
            Input::upper(d, o);
        else
            Input::lower(d, o);
    }
};

// `Columns` along the columns of a from x from block, then T along its rows: get(row, column) gives a Vec, put(row,
// column, value) takes one.
template <class Columns, class T, class Get, class Put>
static FOVEA_INLINE void transform_2d(const Get& get, const Put& put) {
    Vec half[Columns::to][Columns::from];
    FOVEA_UNROLL
    for (int j = 0; j < Columns::from; j++) {
        Vec in[Columns::from], out[Columns::to];
        FOVEA_UNROLL
        for (int i = 0; i < Columns::from; i++) in[i] = get(i, j);
        Columns::run(in, out);
        FOVEA_UNROLL
        for (int i = 0; i < Columns::to; i++) half[i][j] = out[i];
    }
    FOVEA_UNROLL
    for (int i = 0; i < Columns::to; i++) {
        Vec out[T::to];
        T::run(half[i], out);
        FOVEA_UNROLL
        for (int j = 0; j < T::to; j++) put(i, j, out[j]);
    }
}

// T in both directions.
template <class T, class Get, class Put>
static FOVEA_INLINE void transform_2d(const Get& get, const Put& put) {
    transform_2d<T, T>(get, put);
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
