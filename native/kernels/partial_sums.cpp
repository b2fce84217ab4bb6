#include "kernels/partial_sums.h"

#include "runtime/pool.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

void add_partial_sums(const float* partial, long count, long sums, float* out) {
    const long chunk = 4096;
    parallel(ceil_div(count, chunk), [=](long piece) {
        const long end = min_of(count, (piece + 1) * chunk);
        for (long i = piece * chunk; i < end; i += VL) {
            const Mask mask = first_lanes(end - i);
            Vec sum = load(partial + i, mask);
            for (long k = 1; k < sums; k++) sum += load(partial + k * count + i, mask);
            store(out + i, sum, mask);
        }
    });
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
