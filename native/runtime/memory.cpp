#include "runtime/memory.h"

#include <sys/mman.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

#include <cstdint>
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

constexpr size_t large = size_t{2} << 20;  // bytes: a huge page; what is smaller comes from the heap

static size_t rounded(size_t floats) {
    const size_t unit = floats * sizeof(float) >= large ? large : 64;
    return (floats * sizeof(float) + unit - 1) / unit * unit;
}

// Pages of zeros that the system hands out when they are first touched: by then in the thread that uses them, and never
// for the parts that nothing touches.
static void* map_pages(size_t bytes) {
    void* whole = mmap(nullptr, bytes + large, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (whole == MAP_FAILED) return nullptr;
    unsigned char* first = static_cast<unsigned char*>(whole);
    const size_t before = (large - reinterpret_cast<uintptr_t>(first) % large) % large;
    if (before > 0) munmap(first, before);
    munmap(first + before + bytes, large - before);
#if defined(MADV_HUGEPAGE)
    madvise(first + before, bytes, MADV_HUGEPAGE);
#endif
    return first + before;
}

Buffer::Buffer(size_t floats) : size_(floats) {
    const size_t bytes = rounded(floats);
    if (bytes == 0) return;
    data_ = static_cast<float*>(bytes >= large ? map_pages(bytes) : std::aligned_alloc(64, bytes));
    if (!data_) throw std::bad_alloc();
    allow_first(data_, bytes / sizeof(float), floats);
    if (bytes < large) std::memset(data_, 0, floats * sizeof(float));
}

Buffer::~Buffer() {
    const size_t bytes = rounded(size_);
    if (bytes < large) {
        std::free(data_);
    } else {
        allow_first(data_, bytes / sizeof(float), bytes / sizeof(float));  // others may get these pages
        munmap(data_, bytes);
    }
}

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
