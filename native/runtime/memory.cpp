#include "runtime/memory.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

namespace fovea {

alignas(64) static float zero_storage[zero_floats];  // not const: costs no space in the file
const float* const zeros = zero_storage;

Buffer::Buffer(size_t floats) : size_(floats) {
    const size_t page = size_t{2} << 20;
    const size_t alignment = floats * sizeof(float) >= page ? page : 64;
    const size_t bytes = (floats * sizeof(float) + alignment - 1) / alignment * alignment;
    if (bytes == 0) return;
    data_ = static_cast<float*>(std::aligned_alloc(alignment, bytes));
    if (!data_) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
    if (alignment == page) madvise(data_, bytes, MADV_HUGEPAGE);
#endif
    std::memset(data_, 0, bytes);
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
    return buffer.data();
}

}  // namespace fovea
