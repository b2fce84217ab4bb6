// Philox words in bulk; pieces are fixed ranges of the stream, so threads change nothing.
#include "kernels/random.h"

#include "kernels/families.h"
#include "kernels/philox.h"
#include "runtime/pool.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

static void bits_range(uint64_t key, uint64_t first, long count, uint32_t* out) {
    for (long i = 0; i < count;) {
        const uint64_t word = first + static_cast<uint64_t>(i);
        const PhiloxBlock block = philox_block(key, word / 4);
        for (int lane = static_cast<int>(word % 4); lane < 4 && i < count; lane++) out[i++] = block.word[lane];
    }
}

static void bits(uint64_t key, uint64_t first, long count, uint32_t* out) {
    const long chunk = 1 << 14;
    parallel(ceil_div(count, chunk), [=](long piece) {
        const long begin = piece * chunk;
        bits_range(key, first + static_cast<uint64_t>(begin), min_of(chunk, count - begin), out + begin);
    });
}

RandomKernels random_kernels() { return {bits}; }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
