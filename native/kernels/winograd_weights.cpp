#include "kernels/winograd_weights.h"

#include "kernels/winograd_basis.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// rows x VL weights of one tap: input channels from k, output channels from column; 0 beyond the last ones.
void load_block(const WeightSource& source, int tap, long k, long rows, long column, float* out) {
    const ConvShape& s = *source.shape;
    const long columns = min_of<long>(VL, s.cout - column);
    if (!source.transposed) {
        const Mask mask = first_lanes(columns);
        const float* in = source.weight + (tap * static_cast<long>(s.cin) + k) * s.cout + column;
        for (long i = 0; i < rows; i++) store(out + i * VL, load(in + i * s.cout, mask));
        return;
    }
    const float* in = source.weight + ((8 - tap) * static_cast<long>(s.cout) + column) * s.cin + k;
    for (long i = 0; i < rows; i++)
        for (long j = 0; j < VL; j++) out[i * VL + j] = j < columns ? in[j * s.cin + i] : 0.0f;
}

template <int m>
void transform(const WeightSource& source, long depth_begin, long depth_end, long column, float* out, long row,
               long xi_stride) {
    using T = typename Winograd<m>::Weight;
    for (long k = depth_begin; k < depth_end; k += VL) {
        const long rows = min_of<long>(VL, depth_end - k);
        float block[9][VL * VL];
        for (int tap = 0; tap < 9; tap++) load_block(source, tap, k, rows, column, block[tap]);
        for (long i = 0; i < rows; i++, out += row)
            transform_2d<T>([&](int y, int x) FOVEA_INLINE_LAMBDA { return load(block[y * 3 + x] + i * VL); },
                            [&](int y, int x, Vec v)
                                FOVEA_INLINE_LAMBDA { store(out + (y * T::to + x) * xi_stride, v); });
    }
}

}  // namespace

void transform_weights(int outputs, const WeightSource& source, long depth_begin, long depth_end, long column,
                       float* out, long row, long xi_stride) {
    (outputs == 4 ? transform<4> : transform<2>)(source, depth_begin, depth_end, column, out, row, xi_stride);
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
