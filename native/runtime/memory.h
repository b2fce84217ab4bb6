// Aligned memory: owned buffers for plans, and scratch that belongs to the running thread.
#pragma once
#include <cstddef>

namespace fovea {

// Floats aligned to 64 bytes (2 MB and huge pages advised when large), zero at first. Throws std::bad_alloc.
class Buffer {
  public:
    Buffer() = default;
    explicit Buffer(size_t floats);
    ~Buffer();
    Buffer(Buffer&& other) noexcept;
    Buffer& operator=(Buffer&& other) noexcept;
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    float* data() const { return data_; }
    size_t size() const { return size_; }

  private:
    float* data_ = nullptr;
    size_t size_ = 0;
};

// At least `floats` floats of the calling thread's own scratch, contents undefined. It only grows: the first step of a
// plan may allocate, later ones do not. One user at a time: a kernel asks once per piece and divides what it gets.
float* thread_scratch(size_t floats);

// A read-only run of zeros: what pointers to elements in the padding refer to.
constexpr size_t zero_floats = 1 << 17;
extern const float* const zeros;

}  // namespace fovea
