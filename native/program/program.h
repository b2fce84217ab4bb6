// The executor: a network lowered to lists of instructions (forward, loss, backward, update, ...), run in one call.
// Lowering, buffer offsets and every size come from Python (fovea/engines/native); here they are only followed.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/dot.h"
#include "kernels/table.h"
#include "runtime/memory.h"
#include "runtime/pool.h"

namespace fovea {

// Where an operand lies: `offset` bytes behind a base. Base 0 holds addresses themselves (parameters), base 1 is the
// program's own arena, the others are arrays bound before a run (inputs, targets, gradients). -1: no operand.
struct Operand {
    int base;
    int64_t offset;
};
constexpr int absolute_base = 0, arena_base = 1;

class Program {
  public:
    Program(size_t arena_bytes, int capacity, int bases, int sections);

    // Appends to a section. fixed_n: 0 for the n of the run, else the number of "samples" (1: sizes are whole sizes).
    // precision bf16: the kernel's form for activations that are stored so. Throws std::invalid_argument for a kernel
    // that does not exist, has no such form or does not take these counts.
    void add(int section, const std::string& kernel, const std::vector<Operand>& operands,
             const std::vector<long>& ints, const std::vector<float>& reals, long fixed_n, Precision precision);

    // One pass of a convolution. Operands: forward and backward data: to, from, weight, bias (may be none);
    // backward weight: grad_weight, grad_bias (may be none), input, grad_output. keep_packed: the packed
    // weights get memory of their own and are renewed after weights_changed(); else they are packed into
    // scratch at each use. Returns the algorithm's number. precision bf16: from, to, input
    // and grad_output are bf16 (dot.h); weight and bias stay the store's float32, which is rounded and packed again
    // after weights_changed(), and grad_weight and grad_bias are float32, too. float_output (bf16 only): `to` is
    // float32, as for logits that a loss reads.
    int add_conv(int section, ConvPass pass, const ConvShape& shape, const std::vector<Operand>& operands, bool clamp,
                 float low, float high, Precision precision, bool float_output, bool keep_packed);

    // Packed copies of weights are renewed before they are next used.
    void weights_changed();

    // Drops the instructions of a section.
    void clear(int section);

    // Says where a base lies from now on (not the first two).
    void bind(int base, void* address);

    // Runs `count` sections in order on n samples. Allocates nothing, except that scratch of threads grows at first.
    void run(const int* sections, int count, long n);

    // Says how many operations a section takes, for each sample and in all: runs below `light_operations` stay on the
    // calling thread.
    void work(int section, double per_sample, double once);

    // Nanoseconds that each instruction of a section took since timing was switched on (which resets them).
    void time(bool on);
    std::vector<double> times(int section) const;

    // The parallel regions that each instruction of a section opened in the last timed run on several threads.
    std::vector<Regions> regions(int section) const;

    unsigned char* arena() const { return reinterpret_cast<unsigned char*>(arena_.data()); }
    size_t arena_bytes() const { return arena_bytes_; }
    size_t packed_bytes() const;  // of the packed weights that are kept

  private:
    struct Work {
        double per_sample, once;
    };
    struct Packed {
        ConvPlan plan;
        Operand weight;
        Buffer floats;
        bool stale;
    };
    struct Conv {
        ConvPlan plan;
        int packed;    // index, or -1: packed into scratch at each use, or read as they are
        size_t place;  // there
        bool clamp;
        float low, high;
    };
    struct Instruction {
        void (*kernel)(const OpCall& call);  // null: a convolution
        std::unique_ptr<Conv> conv;
        std::vector<Operand> operands;
        std::vector<long> ints;
        std::vector<float> reals;
        long fixed_n;
        double nanoseconds;
        Regions regions;
    };

    void check(const std::vector<Operand>& operands, int section);
    int packed_for(const ConvPlan& plan, Operand weight);
    size_t place_for(const ConvPlan& plan);  // of packed weights, in scratch behind what the run itself needs
    void* resolve(Operand operand) const;
    void execute(const Instruction& instruction, long n);
    void execute_timed(Instruction& instruction, long n);
    void execute_conv(const Conv& conv, void* const* operand, long n);
    const float* packed_weight(const Conv& conv, const float* weight);
    void reserve(size_t floats);

    size_t arena_bytes_;
    Buffer arena_, scratch_;
    size_t next_place_ = 0;
    int capacity_;
    std::vector<void*> bases_, resolved_;  // the latter: operands of the instruction that runs
    std::vector<std::vector<Instruction>> sections_;
    std::vector<Work> work_;
    std::vector<Packed> packed_;
    bool timing_ = false;
};

}  // namespace fovea
