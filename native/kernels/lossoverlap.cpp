// The loss of boxes around common points: how much the found and the true one overlap.
#include "kernels/families.h"
#include "kernels/op_tools.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

enum Variant : long { iou, giou, diou };

constexpr float least = 1e-12f;
constexpr long point_grain = 1024;

FOVEA_INLINE float lower(float a, float b) { return a < b ? a : b; }
FOVEA_INLINE float higher(float a, float b) { return a > b ? a : b; }

// How alike two boxes (left, top, right, bottom) are; `slope`, unless null, takes the derivative by those of p.
// The formulas stand in engines/reference/loss_overlap.py.
float overlap(long variant, const float* p, const float* q, float* slope) {
    const float inner[2] = {lower(p[0], q[0]) + lower(p[2], q[2]), lower(p[1], q[1]) + lower(p[3], q[3])};
    const float outer[2] = {higher(p[0], q[0]) + higher(p[2], q[2]), higher(p[1], q[1]) + higher(p[3], q[3])};
    const float width = p[0] + p[2], height = p[1] + p[3], common = inner[0] * inner[1];
    const float joined = higher(width * height + (q[0] + q[2]) * (q[1] + q[3]) - common, least);
    const float value = common / joined;
    const float around =
        variant == giou ? higher(outer[0] * outer[1], least) : higher(outer[0] * outer[0] + outer[1] * outer[1], least);
    const float apart[2] = {(p[2] - p[0] - q[2] + q[0]) / 2.0f, (p[3] - p[1] - q[3] + q[1]) / 2.0f};
    const float share = variant == giou   ? joined / around
                        : variant == diou ? (apart[0] * apart[0] + apart[1] * apart[1]) / around
                                          : 0.0f;
    if (slope) {
        for (long side = 0; side < 4; side++) {
            const long axis = side % 2;
            const float d_area = axis ? width : height, d_common = p[side] < q[side] ? inner[1 - axis] : 0.0f;
            const float d_joined = d_area - d_common;
            slope[side] = (d_common - value * d_joined) / joined;
            if (variant == giou) {
                const float d_around = p[side] > q[side] ? outer[1 - axis] : 0.0f;
                slope[side] += (d_joined - share * d_around) / around;
            } else if (variant == diou) {
                const float d_around = p[side] > q[side] ? 2.0f * outer[axis] : 0.0f;
                slope[side] -= ((side < 2 ? -apart[axis] : apart[axis]) - share * d_around) / around;
            }
        }
    }
    return variant == giou ? value + share - 1.0f : value - share;
}

size_t scratch(const OpCall& call) { return static_cast<size_t>(2 * ceil_div(call.n * call.ints[0], point_grain)); }

// loss, distances (4 a point), targets (4 and the weight); ints: points of one sample, variant.
void loss(const OpCall& call) {
    const float *found = in(call, 1), *target = in(call, 2);
    double* parts = reinterpret_cast<double*>(call.scratch);
    const long points = call.n * call.ints[0], variant = call.ints[1];
    over_range(points, point_grain, [=](long begin, long end) {
        double sum = 0;
        for (long i = begin; i < end; i++) {
            const float *truth = target + 5 * i, weight = truth[4];
            if (weight != 0.0f) {
                sum += static_cast<double>(weight) *
                       (1.0 - static_cast<double>(overlap(variant, found + 4 * i, truth, nullptr)));
            }
        }
        parts[begin / point_grain] = sum;
    });
    double sum = 0;
    for (long piece = 0; piece < ceil_div(points, point_grain); piece++) sum += parts[piece];
    *out(call, 0) = static_cast<float>(sum / static_cast<double>(call.n));
}

// ddistances, dtargets (each may be null), grad_loss, distances, targets; ints as loss.
void loss_backward(const OpCall& call) {
    float *df = out(call, 0), *dt = out(call, 1);
    const float *found = in(call, 3), *target = in(call, 4);
    const float scale = static_cast<float>(static_cast<double>(*in(call, 2)) / static_cast<double>(call.n));
    const long variant = call.ints[1];
    over_range(call.n * call.ints[0], point_grain, [=](long begin, long end) {
        for (long i = begin; i < end; i++) {
            const float *p = found + 4 * i, *truth = target + 5 * i;
            const float factor = -scale * truth[4];
            if (df) {
                float slope[4] = {};
                if (factor != 0.0f) overlap(variant, p, truth, slope);
                for (long side = 0; side < 4; side++) df[4 * i + side] = factor * slope[side];
            }
            if (dt) {
                float slope[4];
                dt[5 * i + 4] = scale * (1.0f - overlap(variant, truth, p, slope));
                for (long side = 0; side < 4; side++) dt[5 * i + side] = factor * slope[side];
            }
        }
    });
}

const OpKernel list[] = {
    {"iouloss", 3, 2, 0, loss, scratch},
    {"iouloss_backward", 5, 2, 0, loss_backward, nullptr},
};

}  // namespace

OpList lossoverlap_ops() { return op_list(list); }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
