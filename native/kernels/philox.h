// One Philox4x32-10 block, to be inlined into kernels that draw (dropout, augmentation).
#pragma once
#include <cstdint>

#include "kernels/vec.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

struct PhiloxBlock {
    uint32_t word[4];
};

// Words 4 * block .. 4 * block + 3 of the stream of `key` (fovea/random.py, `bits`).
static FOVEA_INLINE PhiloxBlock philox_block(uint64_t key, uint64_t block) {
    uint32_t c0 = static_cast<uint32_t>(block), c1 = static_cast<uint32_t>(block >> 32), c2 = 0, c3 = 0;
    uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
    FOVEA_UNROLL
    for (int round = 0; round < 10; round++) {
        const uint64_t product0 = 0xD2511F53ull * c0, product1 = 0xCD9E8D57ull * c2;
        c0 = static_cast<uint32_t>(product1 >> 32) ^ c1 ^ k0;
        c2 = static_cast<uint32_t>(product0 >> 32) ^ c3 ^ k1;
        c1 = static_cast<uint32_t>(product1);
        c3 = static_cast<uint32_t>(product0);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

// float32 in [0, 1) from the upper 24 bits, as fovea/random.py's `uniform`.
static FOVEA_INLINE float unit_float(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
