// Peak rates. The work is cut into many pieces, so that a thread which starts late or shares its core does less of it.
#include "kernels/peak.h"
#include "kernels/families.h"
#include "runtime/pool.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr long pieces = 256;
constexpr int chains = 12;  // independent: latency 4 on two units needs 8, and 16 registers hold no more with x and y

// What a loop computes goes where the compiler cannot see that nobody reads it.
FOVEA_INLINE void keep(Vec v) { asm volatile("" : : "m"(v)); }

double fma(long rounds) {
    parallel(pieces, [rounds](long) {
        Vec sum[chains];
        FOVEA_UNROLL
        for (int i = 0; i < chains; i++) sum[i] = broadcast(0.001f * static_cast<float>(i));
        const Vec x = broadcast(0.999f), y = broadcast(1e-6f);
        for (long round = 0; round < rounds; round++) FOVEA_UNROLL
        for (int i = 0; i < chains; i++) sum[i] = sum[i] * x + y;
        FOVEA_UNROLL
        for (int i = 0; i < chains; i++) keep(sum[i]);
    });
    return 2.0 * VL * chains * static_cast<double>(rounds) * pieces;
}

#if defined(__AVX512F__) && !defined(FOVEA_ONE_ISA)
__attribute__((target("avx512bf16"))) void bf16_piece(long rounds) {
    __m512 sum[chains];
    FOVEA_UNROLL
    for (int i = 0; i < chains; i++) sum[i] = _mm512_set1_ps(static_cast<float>(i));
    const __m512bh x = (__m512bh)_mm512_set1_epi16(0x3f80), y = (__m512bh)_mm512_set1_epi16(0x3c00);  // 1 and 2^-7
    for (long round = 0; round < rounds; round++) FOVEA_UNROLL
    for (int i = 0; i < chains; i++) sum[i] = _mm512_dpbf16_ps(sum[i], x, y);
    FOVEA_UNROLL
    for (int i = 0; i < chains; i++) keep(reinterpret_cast<Vec>(sum[i]));
}

__attribute__((target("avx512vnni"))) void int8_piece(long rounds) {
    __m512i sum[chains];
    FOVEA_UNROLL
    for (int i = 0; i < chains; i++) sum[i] = _mm512_set1_epi32(i);
    const __m512i x = _mm512_set1_epi8(3), y = _mm512_set1_epi8(5);
    for (long round = 0; round < rounds; round++) FOVEA_UNROLL
    for (int i = 0; i < chains; i++) sum[i] = _mm512_dpbusd_epi32(sum[i], x, y);
    FOVEA_UNROLL
    for (int i = 0; i < chains; i++) keep(reinterpret_cast<Vec>(sum[i]));
}

double dot_bf16(long rounds) {
    if (!__builtin_cpu_supports("avx512bf16")) return 0;
    parallel(pieces, [rounds](long) { bf16_piece(rounds); });
    return 4.0 * VL * chains * static_cast<double>(rounds) * pieces;
}

double dot_int8(long rounds) {
    if (!__builtin_cpu_supports("avx512vnni")) return 0;
    parallel(pieces, [rounds](long) { int8_piece(rounds); });
    return 8.0 * VL * chains * static_cast<double>(rounds) * pieces;
}
#else
double dot_bf16(long) { return 0; }
double dot_int8(long) { return 0; }
#endif

// Many short instructions that depend on little: where hyperthreads share a core, their common limit.
double simple_steps(long rounds) {
    parallel(pieces, [rounds](long) {
        unsigned long value[chains] = {};
        for (long round = 0; round < rounds; round++) FOVEA_UNROLL
        for (int i = 0; i < chains; i++) {
            value[i] += static_cast<unsigned long>(round);
            asm volatile("" : "+r"(value[i]));
        }
    });
    return static_cast<double>(chains) * static_cast<double>(rounds) * pieces;
}

struct Range {
    long first, last;
};

Range range_of(long piece, long floats) { return {floats * piece / pieces, floats * (piece + 1) / pieces}; }

double read(const float* from, long floats) {
    parallel(pieces, [from, floats](long piece) {
        const Range range = range_of(piece, floats);
        Vec sum[4] = {};
        for (long i = range.first; i + 4 * VL <= range.last; i += 4 * VL) FOVEA_UNROLL
        for (int j = 0; j < 4; j++) sum[j] += load(from + i + j * VL);
        FOVEA_UNROLL
        for (int j = 0; j < 4; j++) keep(sum[j]);
    });
    return static_cast<double>(sizeof(float)) * static_cast<double>(floats);
}

double copy(const float* from, float* to, long floats) {
    parallel(pieces, [from, to, floats](long piece) {
        const Range range = range_of(piece, floats);
        long i = range.first;
        for (; i + VL <= range.last; i += VL) store(to + i, load(from + i));  // some CPUs store masked vectors slowly
        const Mask mask = first_lanes(range.last - i);
        store(to + i, load(from + i, mask), mask);
    });
    return 2.0 * sizeof(float) * static_cast<double>(floats);
}

}  // namespace

PeakKernels peak_kernels() { return {fma, dot_bf16, dot_int8, simple_steps, read, copy}; }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
