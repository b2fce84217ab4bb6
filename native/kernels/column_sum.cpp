#include "kernels/column_sum.h"

#include "runtime/pool.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// Rows are cut into at most 64 chunks whatever the number of threads; their sums are added in order, in double.
long chunk_count(long rows, int columns) {
    const long by_work = rows * columns / 16384;
    return max_of(1L, min_of(by_work, 64L));
}

// Four rows at a time: four independent chains, and shorter ones, which also rounds less.
template <class S>
void sum_rows(const S* in, long rows, int columns, float* out) {
    for (int c = 0; c < columns; c += VL) {
        const Mask mask = first_lanes(columns - c);
        Vec sum[4] = {};
        const S* p = in + c;
        long row = 0;
        for (; row + 4 <= rows; row += 4, p += 4L * columns) FOVEA_UNROLL
        for (int i = 0; i < 4; i++) sum[i] += load(p + static_cast<long>(i) * columns, mask);
        for (; row < rows; row++, p += columns) sum[0] += load(p, mask);
        store(out + c, (sum[0] + sum[1]) + (sum[2] + sum[3]), mask);
    }
}

template <class S>
void sum_columns(const S* in, long rows, int columns, float* out, float* scratch) {
    const long chunks = chunk_count(rows, columns);
    parallel(chunks, [=](long chunk) {
        const long begin = rows * chunk / chunks, end = rows * (chunk + 1) / chunks;
        sum_rows(in + begin * columns, end - begin, columns, scratch + chunk * columns);
    });
    for (int c = 0; c < columns; c++) {
        double sum = 0;
        for (long chunk = 0; chunk < chunks; chunk++) sum += static_cast<double>(scratch[chunk * columns + c]);
        out[c] = static_cast<float>(sum);
    }
}

}  // namespace

size_t column_sum_scratch(long rows, int columns) { return static_cast<size_t>(chunk_count(rows, columns)) * columns; }

void column_sum(const float* in, long rows, int columns, float* out, float* scratch) {
    sum_columns(in, rows, columns, out, scratch);
}
void column_sum(const bf16* in, long rows, int columns, float* out, float* scratch) {
    sum_columns(in, rows, columns, out, scratch);
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
