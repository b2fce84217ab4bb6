// Philox4x32-10 (Salmon et al. 2011), the same words as fovea/random.py.
#pragma once
#include <cstdint>

namespace fovea {

struct RandomKernels {
    // out[i] = word first + i of `key`'s stream: bits(key, first + count)[first:] in fovea/random.py.
    void (*bits)(uint64_t key, uint64_t first, long count, uint32_t* out);
};

}  // namespace fovea
