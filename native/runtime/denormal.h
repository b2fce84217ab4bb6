// Denormal numbers are flushed to zero while native code runs: arithmetic on them is up to a hundred times slower.
#pragma once
#include <cstdint>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace fovea {

// Sets the flags of the calling thread and gives them back as they were.
class FlushDenormals {
  public:
    FlushDenormals() : before_(read()) { write(before_ | flush_bits); }
    ~FlushDenormals() { write(before_); }
    FlushDenormals(const FlushDenormals&) = delete;
    FlushDenormals& operator=(const FlushDenormals&) = delete;

  private:
#if defined(__x86_64__)
    static constexpr uint64_t flush_bits = 0x8040;  // flush to zero, denormals are zero
    static uint64_t read() { return _mm_getcsr(); }
    static void write(uint64_t flags) { _mm_setcsr(static_cast<unsigned>(flags)); }
#elif defined(__aarch64__)
    static constexpr uint64_t flush_bits = 1ull << 24;  // FPCR.FZ
    static uint64_t read() {
        uint64_t flags;
        asm volatile("mrs %0, fpcr" : "=r"(flags));
        return flags;
    }
    static void write(uint64_t flags) { asm volatile("msr fpcr, %0" : : "r"(flags)); }
#else
    static constexpr uint64_t flush_bits = 0;
    static uint64_t read() { return 0; }
    static void write(uint64_t) {}
#endif
    uint64_t before_;
};

}  // namespace fovea
