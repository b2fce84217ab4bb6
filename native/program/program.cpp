#include "program/program.h"

#include <chrono>
#include <cstring>
#include <stdexcept>

#include "runtime/denormal.h"
#include "runtime/pool.h"

namespace fovea {
namespace {

constexpr double light_operations = 3e6;  // some 50 microseconds of one core, what waking another one takes

const OpKernel* find_kernel(const std::string& name, Precision precision) {
    const auto find = [&](const OpList& list) -> const OpKernel* {
        for (int i = 0; i < list.count; i++)
            if (name == list.first[i].name) return &list.first[i];
        return nullptr;
    };
    if (precision == Precision::bf16)
        for (const OpList& list : dot_kernels().stored)
            if (const OpKernel* found = find(list)) return found;
    for (const OpList& list : kernels().ops.lists)
        if (const OpKernel* found = find(list)) return found;
    if (const OpKernel* found = find(dot_kernels().int8)) return found;
    for (const OpList& list : dot_kernels().stored)  // those that prepare weights for a form for bf16
        if (const OpKernel* found = find(list)) return found;
    throw std::invalid_argument("expected the name of a kernel, got '" + name + "'; lowering and core do not match");
}

void check_count(const std::string& kernel, const char* what, int expected, size_t got) {
    if (expected < 0 || static_cast<size_t>(expected) == got) return;
    throw std::invalid_argument("expected " + std::to_string(expected) + " " + what + " for " + kernel + ", got " +
                                std::to_string(got));
}

}  // namespace

Program::Program(size_t arena_bytes, int capacity, int bases, int sections)
    : arena_bytes_(arena_bytes),
      arena_(arena_bytes / sizeof(float) + 1),  // never empty: an array needs an address
      capacity_(capacity),
      bases_(static_cast<size_t>(bases), nullptr),
      sections_(static_cast<size_t>(sections)),
      work_(static_cast<size_t>(sections), Work{0, 0}) {
    if (bases < 2 || sections < 1 || capacity < 1) throw std::invalid_argument("bases, sections or capacity");
    bases_[arena_base] = arena_.data();
}

void Program::check(const std::vector<Operand>& operands, int section) {
    if (section < 0 || static_cast<size_t>(section) >= sections_.size()) throw std::invalid_argument("section");
    for (const Operand& operand : operands) {
        if (operand.base < -1 || operand.base >= static_cast<int>(bases_.size())) throw std::invalid_argument("base");
        const bool inside = operand.offset >= 0 && static_cast<size_t>(operand.offset) < arena_bytes_;
        if (operand.base == arena_base && !inside) throw std::invalid_argument("arena offset");
    }
    if (operands.size() > resolved_.size()) resolved_.resize(operands.size());
}

void Program::reserve(size_t floats) {
    if (floats > scratch_.size()) scratch_ = Buffer(floats);
}

void Program::add(int section, const std::string& kernel, const std::vector<Operand>& operands,
                  const std::vector<long>& ints, const std::vector<float>& reals, long fixed_n, Precision precision) {
    check(operands, section);
    const OpKernel* found = find_kernel(kernel, precision);
    check_count(kernel, "operands", found->operands, operands.size());
    check_count(kernel, "ints", found->ints, ints.size());
    check_count(kernel, "reals", found->reals, reals.size());
    const OpCall call{fixed_n ? fixed_n : capacity_, nullptr, ints.data(), reals.data(), nullptr};
    const auto run = precision == Precision::bf16 ? found->run_bf16 : found->run;
    if (!run) throw std::invalid_argument("expected a kernel with a form for bf16, got '" + kernel + "'");
    if (found->scratch) reserve(found->scratch(call));
    sections_[static_cast<size_t>(section)].push_back({run, nullptr, operands, ints, reals, fixed_n, 0, {}});
}

int Program::packed_for(const ConvPlan& plan, Operand weight) {
    if (plan.packed_floats == 0) return -1;
    for (size_t i = 0; i < packed_.size(); i++) {
        const Packed& other = packed_[i];
        const bool same = other.plan.pass == plan.pass && other.plan.algorithm == plan.algorithm &&
                          other.plan.precision == plan.precision && other.plan.tile_vectors == plan.tile_vectors &&
                          std::memcmp(&other.plan.shape, &plan.shape, sizeof plan.shape) == 0 &&
                          other.weight.base == weight.base && other.weight.offset == weight.offset;
        if (same) return static_cast<int>(i);
    }
    packed_.push_back({plan, weight, Buffer(plan.packed_floats), true});
    return static_cast<int>(packed_.size()) - 1;
}

int Program::add_conv(int section, ConvPass pass, const ConvShape& shape, const std::vector<Operand>& operands,
                      bool clamp, float low, float high, Precision precision, bool float_output, bool keep_packed) {
    check(operands, section);
    check_count("a convolution", "operands", 4, operands.size());
    ConvPlan plan = precision == Precision::bf16 ? dot_kernels().bf16.plan(pass, shape, capacity_, float_output)
                                                 : kernels().conv.plan(pass, shape, capacity_);
    if (precision == Precision::fp32 && keep_packed) kernels().conv.pack_ahead(plan);
    auto conv = std::make_unique<Conv>(Conv{plan, -1, 0, clamp, low, high});
    if (pass != ConvPass::backward_weight && keep_packed) conv->packed = packed_for(conv->plan, operands[2]);
    const bool into_scratch = conv->packed < 0 && plan.packed_floats > 0;
    if (into_scratch) conv->place = place_for(plan);
    reserve(into_scratch ? conv->place + plan.packed_floats : plan.scratch_floats);
    const int algorithm = static_cast<int>(conv->plan.algorithm);
    sections_[static_cast<size_t>(section)].push_back({nullptr, std::move(conv), operands, {}, {}, 0, 0, {}});
    return algorithm;
}

// Places follow each other and begin again at the front: a line that another core read a moment ago is slow to write.
size_t Program::place_for(const ConvPlan& plan) {
    constexpr size_t round_trip = (16 << 20) / sizeof(float), line = 16;
    const size_t least = (plan.scratch_floats + line - 1) / line * line;
    const bool fits = next_place_ >= least && next_place_ + plan.packed_floats <= round_trip;
    const size_t place = fits ? next_place_ : least;
    next_place_ = (place + plan.packed_floats + line - 1) / line * line;
    return place;
}

size_t Program::packed_bytes() const {
    size_t floats = 0;
    for (const Packed& packed : packed_) floats += packed.floats.size();
    return floats * sizeof(float);
}

void Program::weights_changed() {
    for (Packed& packed : packed_) packed.stale = true;
}

void* Program::resolve(Operand operand) const {
    if (operand.base < 0) return nullptr;
    if (operand.base == absolute_base) return reinterpret_cast<void*>(operand.offset);
    return static_cast<unsigned char*>(bases_[static_cast<size_t>(operand.base)]) + operand.offset;
}

const float* Program::packed_weight(const Conv& conv, const float* weight) {
    if (conv.plan.packed_floats == 0) return weight;
    const auto pack = conv.plan.precision == Precision::bf16 ? dot_kernels().bf16.pack : kernels().conv.pack;
    if (conv.packed < 0) {
        float* const packed = scratch_.data() + conv.place;
        pack(conv.plan, weight, packed);
        return packed;
    }
    Packed& kept = packed_[static_cast<size_t>(conv.packed)];
    if (kept.stale) pack(kept.plan, weight, kept.floats.data());
    kept.stale = false;
    return kept.floats.data();
}

void Program::execute_conv(const Conv& conv, void* const* operand, long n) {
    const ConvPlan& plan = conv.plan;
    const int images = static_cast<int>(n);
    if (plan.pass == ConvPass::backward_weight) {
        const auto run = [&](auto kernel, auto* input, auto* grad_output) {
            kernel(plan, images, input, grad_output, static_cast<float*>(operand[0]), static_cast<float*>(operand[1]),
                   scratch_.data());
        };
        if (plan.precision == Precision::bf16)
            run(dot_kernels().bf16.run_backward_weight, static_cast<const bf16*>(operand[2]),
                static_cast<const bf16*>(operand[3]));
        else
            run(kernels().conv.run_backward_weight, static_cast<const float*>(operand[2]),
                static_cast<const float*>(operand[3]));
        return;
    }
    const float* weight = packed_weight(conv, static_cast<const float*>(operand[2]));
    const Epilogue epilogue{static_cast<const float*>(operand[3]), conv.clamp, conv.low, conv.high};
    if (plan.precision == Precision::bf16)
        dot_kernels().bf16.run(plan, images, static_cast<const bf16*>(operand[1]), weight, operand[0], scratch_.data(),
                               epilogue);
    else
        kernels().conv.run(plan, images, static_cast<const float*>(operand[1]), weight, static_cast<float*>(operand[0]),
                           scratch_.data(), epilogue);
}

void Program::execute(const Instruction& instruction, long n) {
    void** const operand = resolved_.data();
    for (size_t i = 0; i < instruction.operands.size(); i++) operand[i] = resolve(instruction.operands[i]);
    const long samples = instruction.fixed_n ? instruction.fixed_n : n;
    if (instruction.conv) return execute_conv(*instruction.conv, operand, samples);
    instruction.kernel({samples, operand, instruction.ints.data(), instruction.reals.data(), scratch_.data()});
}

void Program::clear(int section) { sections_.at(static_cast<size_t>(section)).clear(); }

void Program::bind(int base, void* address) {
    if (base <= arena_base) throw std::invalid_argument("base");
    bases_.at(static_cast<size_t>(base)) = address;
}

void Program::run(const int* sections, int count, long n) {
    if (n < 1 || n > capacity_) throw std::invalid_argument("n");
    double operations = 0;
    for (int i = 0; i < count; i++) {
        const Work& work = work_.at(static_cast<size_t>(sections[i]));
        operations += work.per_sample * static_cast<double>(n) + work.once;
    }
    const FlushDenormals flush;
    const CallingThreadOnly alone(operations < light_operations);
    for (int i = 0; i < count; i++)
        for (Instruction& instruction : sections_[static_cast<size_t>(sections[i])]) {
            if (timing_)
                execute_timed(instruction, n);
            else
                execute(instruction, n);
        }
}

void Program::execute_timed(Instruction& instruction, long n) {
    watch_regions(true);
    const auto start = std::chrono::steady_clock::now();
    execute(instruction, n);
    const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
    instruction.nanoseconds += took.count();
    instruction.regions = watch_regions(false);
}

void Program::work(int section, double per_sample, double once) {
    work_.at(static_cast<size_t>(section)) = {per_sample, once};
}

void Program::time(bool on) {
    timing_ = on;
    for (auto& section : sections_)
        for (Instruction& instruction : section) instruction.nanoseconds = 0;
}

std::vector<double> Program::times(int section) const {
    std::vector<double> result;
    for (const Instruction& instruction : sections_.at(static_cast<size_t>(section)))
        result.push_back(instruction.nanoseconds);
    return result;
}

std::vector<Regions> Program::regions(int section) const {
    std::vector<Regions> result;
    for (const Instruction& instruction : sections_.at(static_cast<size_t>(section)))
        result.push_back(instruction.regions);
    return result;
}

}  // namespace fovea
