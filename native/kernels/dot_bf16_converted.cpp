#include "kernels/dot_bf16_converted.h"

#include "kernels/bf16.h"
#include "kernels/table.h"
#include "runtime/pool.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr long copy_floats = (8 << 20) / 4;  // of both operands of the images that are converted at once

long in_floats(const ConvShape& s) { return s.in_pixels() * s.cin; }
long out_floats(const ConvShape& s) { return s.out_pixels() * s.cout; }

int images_at_once(const ConvPlan& plan) {
    const long image = in_floats(plan.shape) + out_floats(plan.shape);
    return static_cast<int>(max_of(1L, min_of<long>(plan.batch, copy_floats / image)));
}

ConvPlan float_plan(const ConvPlan& plan) { return kernels().conv.plan(plan.pass, plan.shape, images_at_once(plan)); }

// body(begin, end) over runs of `count` elements.
template <class Body>
void over_runs(long count, const Body& body) {
    const long run = 16384;
    parallel(ceil_div(count, run), [&](long piece) { body(piece * run, min_of(count, (piece + 1) * run)); });
}

template <class From, class To>
void convert(const From* from, To* to, long count) {
    over_runs(count, [=](long begin, long end) {
        for (long i = begin; i < end; i += VL) {
            const Mask mask = first_lanes(end - i);
            store(to + i, load(from + i, mask), mask);
        }
    });
}

void add(const float* from, float* to, long count) {
    over_runs(count, [=](long begin, long end) {
        for (long i = begin; i < end; i += VL) {
            const Mask mask = first_lanes(end - i);
            store(to + i, load(to + i, mask) + load(from + i, mask), mask);
        }
    });
}

}  // namespace

// Scratch: x, y (or their gradients), then gradients of the weights, then what the float32 kernel needs.
void plan_bf16_converted(ConvPlan& plan) {
    const ConvShape& s = plan.shape;
    const ConvPlan inner = float_plan(plan);
    plan.algorithm = ConvAlgorithm::converted;
    plan.tile_pixels = plan.tile_vectors = 1;
    const bool weights = plan.pass == ConvPass::backward_weight;
    plan.packed_floats = inner.packed_floats;
    const long sum = weights ? s.weight_floats() : 0;
    plan.scratch_floats =
        static_cast<size_t>(images_at_once(plan) * (in_floats(s) + out_floats(s)) + sum) + inner.scratch_floats;
}

void pack_bf16_converted(const ConvPlan& plan, const float* weight, float* packed) {
    kernels().conv.pack(float_plan(plan), weight, packed);
}

void run_bf16_converted(const ConvPlan& plan, int n, const bf16* from, const float* weight, void* to, float* scratch,
                        const Epilogue& epilogue) {
    const ConvPlan inner = float_plan(plan);
    const bool forward = plan.pass == ConvPass::forward;
    const long x = in_floats(plan.shape), y = out_floats(plan.shape);
    const long from_image = forward ? x : y, to_image = forward ? y : x;
    float *const from_copy = scratch, *const to_copy = scratch + inner.batch * from_image;
    float* const rest = to_copy + inner.batch * to_image;
    for (int first = 0; first < n; first += inner.batch) {
        const int images = min_of(inner.batch, n - first);
        convert(from + first * from_image, from_copy, images * from_image);
        float* const out = plan.float_output ? static_cast<float*>(to) + first * to_image : to_copy;
        kernels().conv.run(inner, images, from_copy, weight, out, rest, epilogue);
        if (!plan.float_output) convert(to_copy, static_cast<bf16*>(to) + first * to_image, images * to_image);
    }
}

void run_bf16_converted_weight(const ConvPlan& plan, int n, const bf16* input, const bf16* grad_output,
                               float* grad_weight, float* scratch) {
    const ConvPlan inner = float_plan(plan);
    const ConvShape& s = plan.shape;
    const long x = in_floats(s), y = out_floats(s), weights = s.weight_floats();
    float *const x_copy = scratch, *const y_copy = x_copy + inner.batch * x;
    float *const sum = y_copy + inner.batch * y, *const rest = sum + weights;
    for (int first = 0; first < n; first += inner.batch) {
        const int images = min_of(inner.batch, n - first);
        convert(input + first * x, x_copy, images * x);
        convert(grad_output + first * y, y_copy, images * y);
        float* out = first == 0 ? grad_weight : sum;
        kernels().conv.run_backward_weight(inner, images, x_copy, y_copy, out, nullptr, rest);
        if (first > 0) add(sum, grad_weight, weights);
    }
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
