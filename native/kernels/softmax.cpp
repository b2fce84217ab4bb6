// Softmax along one axis, and the random masks of dropout.
#include "kernels/families.h"
#include "kernels/op_tools.h"
#include "kernels/philox.h"
#include "kernels/vmath.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// y, x; ints: what lies outside the axis in one sample, the axis, what lies inside. VL inner positions at a time.
void softmax(const OpCall& call) {
    const long size = call.ints[1], inner = call.ints[2];
    float* y = out(call, 0);
    const float* x = in(call, 1);
    over_rows(call.n * call.ints[0], size * inner, [=](long begin, long end) {
        for (long o = begin; o < end; o++)
            for (long i = 0; i < inner; i += VL) {
                const Mask mask = first_lanes(inner - i);
                const long first = o * size * inner + i;
                Vec largest = load(x + first, mask), sum = {};
                for (long s = 1; s < size; s++) largest = at_least(load(x + first + s * inner, mask), largest);
                for (long s = 0; s < size; s++) {
                    const Vec e = vexp(load(x + first + s * inner, mask) - largest);
                    store(y + first + s * inner, e, mask);
                    sum += e;
                }
                for (long s = 0; s < size; s++)
                    store(y + first + s * inner, load(y + first + s * inner, mask) / sum, mask);
            }
    });
}

// The same for inner = 1: VL elements of the axis at a time. Lanes beyond the end are read back as 0.
void softmax_rows(const OpCall& call) {
    const long size = call.ints[1];
    float* y = out(call, 0);
    const float* x = in(call, 1);
    over_rows(call.n * call.ints[0], size, [=](long begin, long end) {
        for (long row = begin; row < end; row++) {
            const float* from = x + row * size;
            float *to = y + row * size, largest = from[0];
            for (long s = 1; s < size; s++) largest = from[s] > largest || from[s] != from[s] ? from[s] : largest;
            Vec sum = {};
            for (long s = 0; s < size; s += VL) {
                const Mask mask = first_lanes(size - s);
                store(to + s, vexp(load(from + s, mask) - largest), mask);
                sum += load(to + s, mask);
            }
            const Vec total = broadcast(sum_lanes(sum));
            for (long s = 0; s < size; s += VL) {
                const Mask mask = first_lanes(size - s);
                store(to + s, load(to + s, mask) / total, mask);
            }
        }
    });
}

// dx, dy, y; ints as softmax.  dx_i = y_i (dy_i - sum_j dy_j y_j)
void softmax_backward(const OpCall& call) {
    const long size = call.ints[1], inner = call.ints[2];
    float* dx = out(call, 0);
    const float *dy = in(call, 1), *y = in(call, 2);
    over_rows(call.n * call.ints[0], size * inner, [=](long begin, long end) {
        for (long o = begin; o < end; o++)
            for (long i = 0; i < inner; i += VL) {
                const Mask mask = first_lanes(inner - i);
                const long first = o * size * inner + i;
                Vec sum = {};
                for (long s = 0; s < size; s++)
                    sum += load(dy + first + s * inner, mask) * load(y + first + s * inner, mask);
                for (long s = 0; s < size; s++) {
                    const long at = first + s * inner;
                    store(dx + at, load(y + at, mask) * (load(dy + at, mask) - sum), mask);
                }
            }
    });
}

constexpr long word_grain = 8192;  // a multiple of the 4 words of a Philox block

// y, x, key (uint64); ints: floats of one sample, threshold; reals: 1 / (1 - rate). Also the backward pass, on dy.
// Element e of sample i keeps its value when word i * size + e of the key's stream is at least the threshold.
template <class S>
void dropout(const OpCall& call) {
    S* y = out<S>(call, 0);
    const S* x = in<S>(call, 1);
    const float scale = call.reals[0];
    const uint64_t key = *static_cast<const uint64_t*>(call.operand[2]);
    const uint32_t threshold = static_cast<uint32_t>(call.ints[1]);
    over_range(call.n * call.ints[0], word_grain, [=](long begin, long end) {
        for (long i = begin; i < end; i += 4) {
            const PhiloxBlock block = philox_block(key, static_cast<uint64_t>(i / 4));
            for (long lane = 0; lane < min_of(4L, end - i); lane++)
                put(y + i + lane, value(x[i + lane]) * (block.word[lane] >= threshold ? scale : 0.0f));
        }
    });
}

// The same with one word per sample.
template <class S>
void stochastic_depth(const OpCall& call) {
    S* y = out<S>(call, 0);
    const S* x = in<S>(call, 1);
    const float scale = call.reals[0];
    const uint64_t key = *static_cast<const uint64_t*>(call.operand[2]);
    const uint32_t threshold = static_cast<uint32_t>(call.ints[1]);
    const long size = call.ints[0];
    over_rows(call.n, size, [=](long begin, long end) {
        for (long sample = begin; sample < end; sample++) {
            const uint32_t word = philox_block(key, static_cast<uint64_t>(sample / 4)).word[sample % 4];
            const float factor = word >= threshold ? scale : 0.0f;
            for (long i = sample * size; i < (sample + 1) * size; i++) put(y + i, value(x[i]) * factor);
        }
    });
}

const OpKernel list[] = {
    {"softmax", 2, 3, 0, softmax, nullptr},
    {"softmax_rows", 2, 3, 0, softmax_rows, nullptr},
    {"softmax_backward", 3, 3, 0, softmax_backward, nullptr},
    {"dropout", 3, 2, 1, dropout<float>, nullptr, operands(0, 1), dropout<bf16>},
    {"stochasticdepth", 3, 2, 1, stochastic_depth<float>, nullptr, operands(0, 1), stochastic_depth<bf16>},
};

}  // namespace

OpList softmax_ops() { return op_list(list); }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
