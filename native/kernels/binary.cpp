// Two operands with broadcasting, and products of matrices sample by sample.
#include "kernels/families.h"
#include "kernels/op_tools.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

struct Sum {
    static FOVEA_INLINE Vec value(Vec a, Vec b) { return a + b; }
};
struct Difference {
    static FOVEA_INLINE Vec value(Vec a, Vec b) { return a - b; }
};
struct Product {
    static FOVEA_INLINE Vec value(Vec a, Vec b) { return a * b; }
};
struct Quotient {
    static FOVEA_INLINE Vec value(Vec a, Vec b) { return a / b; }
};

// `step` is 1, or 0 where the operand is repeated along the row.
template <class S>
FOVEA_INLINE Vec take(const S* p, long i, long step, Mask mask) {
    return step ? load(p + i, mask) : broadcast(value(*p));
}

template <class F, class S>
void row(S* y, const S* a, long a_step, const S* b, long b_step, long width) {
    if (a_step <= 1 && b_step <= 1) {
        for (long i = 0; i < width; i += VL) {
            const Mask mask = first_lanes(width - i);
            store(y + i, F::value(take(a, i, a_step, mask), take(b, i, b_step, mask)), mask);
        }
        return;
    }
    for (long i = 0; i < width; i++)
        put(y + i, F::value(broadcast(value(a[i * a_step])), broadcast(value(b[i * b_step])))[0]);
}

// y, a, b; ints: floats between samples of a and of b, number of axes, then the output's sizes, strides in a, strides
// in b (0 where repeated).
template <class F, class S>
void binary(const OpCall& call) {
    const long a_sample = call.ints[0], b_sample = call.ints[1], axes = call.ints[2];
    const long *size = call.ints + 3, *a_stride = size + axes, *b_stride = a_stride + axes;
    S* y = out<S>(call, 0);
    const S *a = in<S>(call, 1), *b = in<S>(call, 2);
    const long width = size[axes - 1], as = a_stride[axes - 1], bs = b_stride[axes - 1];
    if (axes == 1 && as == 1 && bs == 1) {  // equal shapes
        over_range(call.n * width, piece_floats,
                   [=](long begin, long end) { row<F>(y + begin, a + begin, 1, b + begin, 1, end - begin); });
        return;
    }
    long rows = 1;
    for (long i = 0; i + 1 < axes; i++) rows *= size[i];
    over_rows(call.n * rows, width, [=](long begin, long end) {
        for (long flat = begin; flat < end; flat++) {
            const long sample = flat / rows;
            long rest = flat % rows, from_a = sample * a_sample, from_b = sample * b_sample;
            for (long i = axes - 2; i >= 0; i--) {
                from_a += rest % size[i] * a_stride[i];
                from_b += rest % size[i] * b_stride[i];
                rest /= size[i];
            }
            row<F>(y + flat * width, a + from_a, as, b + from_b, bs, width);
        }
    });
}

// One product in a batch: y (rows x columns) = a (rows x depth) b (depth x columns), a and b with any strides.
struct Product2 {
    long batch, rows, depth, columns, a_row, a_depth, b_depth, b_column;
};

// y, a, b; ints: Product2 for one sample.
void matmul(const OpCall& call) {
    const Product2 m = *reinterpret_cast<const Product2*>(call.ints);
    float* y = out(call, 0);
    const float *a = in(call, 1), *b = in(call, 2);
    over_rows(call.n * m.batch * m.rows, m.depth * m.columns, [=](long begin, long end) {
        for (long flat = begin; flat < end; flat++) {
            const long matrix = flat / m.rows, r = flat % m.rows;
            const float *from_a = a + matrix * m.rows * m.depth + r * m.a_row,
                        *from_b = b + matrix * m.depth * m.columns;
            float* to = y + flat * m.columns;
            for (long c = 0; c < m.columns; c++) to[c] = 0;
            for (long d = 0; d < m.depth; d++) {
                const float factor = from_a[d * m.a_depth], *line = from_b + d * m.b_depth;
                if (m.b_column == 1) {
                    for (long c = 0; c < m.columns; c++) to[c] += factor * line[c];
                } else {
                    for (long c = 0; c < m.columns; c++) to[c] += factor * line[c * m.b_column];
                }
            }
        }
    });
}

const OpKernel list[] = {
    {"add_broadcast", 3, -1, 0, binary<Sum, float>, nullptr, operands(0, 1, 2), binary<Sum, bf16>},
    {"sub", 3, -1, 0, binary<Difference, float>, nullptr, operands(0, 1, 2), binary<Difference, bf16>},
    {"multiply", 3, -1, 0, binary<Product, float>, nullptr, operands(0, 1, 2), binary<Product, bf16>},
    {"div", 3, -1, 0, binary<Quotient, float>, nullptr, operands(0, 1, 2), binary<Quotient, bf16>},
    {"matmul", 3, 8, 0, matmul, nullptr},
};

}  // namespace

OpList binary_ops() { return op_list(list); }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
