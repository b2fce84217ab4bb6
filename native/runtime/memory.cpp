#include "runtime/memory.h"

#include <sys/mman.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

namespace fovea {

alignas(64) static float zero_storage[zero_floats];  // not const: costs no space in the file
const float* const zeros = zero_storage;

// AddressSanitizer reports what touches the rest of the `size` floats; without it this does nothing.
static void allow_first([[maybe_unused]] float* data, [[maybe_unused]] size_t size, [[maybe_unused]] size_t floats) {
#if defined(__SANITIZE_ADDRESS__)
    ASAN_UNPOISON_MEMORY_REGION(data, floats * sizeof(float));
    ASAN_POISON_MEMORY_REGION(data + floats, (size - floats) * sizeof(float));
#endif
}

Buffer::Buffer(size_t floats) : size_(floats) {
    const size_t page = size_t{2} << 20;
    const size_t alignment = floats * sizeof(float) >= page ? page : 64;
    const size_t bytes = (floats * sizeof(float) + alignment - 1) / alignment * alignment;
    if (bytes == 0) return;
    data_ = static_cast<float*>(std::aligned_alloc(alignment, bytes));
    if (!data_) throw std::bad_alloc();
    allow_first(data_, bytes / sizeof(float), floats);
#if defined(MADV_HUGEPAGE)
    if (alignment == page) madvise(data_, bytes, MADV_HUGEPAGE);
#endif
    std::memset(data_, 0, floats * sizeof(float));
}

Buffer::~Buffer() { std::free(data_); }

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
}

float* thread_scratch(size_t floats) {
    thread_local Buffer buffer;
    if (buffer.size() < floats) buffer = Buffer(floats + floats / 4);
    allow_first(buffer.data(), buffer.size(), floats);
    return buffer.data();
}

}  // namespace fovea
