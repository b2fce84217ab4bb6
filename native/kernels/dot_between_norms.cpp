// Pointwise convolutions in training with the batch norms around them, in bf16: what stays in cache is rounded as where
// it is stored.
#include "kernels/between_norms.h"
#include "kernels/dot_families.h"
#include "kernels/dot_pointwise.h"
#include "kernels/normed_pointwise.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

using Math = PairPointwiseMath;

const OpKernel list[] = {
    {"normed_pointwise_backward", 8, 3, 0, nullptr, normed::scratch<Math>, operands(0, 2, 3, 6),
     normed::backward<Math>},
    {"pointwise_between_norms", 10, 3, 4, nullptr, between::forward_scratch<Math>, operands(0, 4),
     between::forward<Math>},
    {"pointwise_between_norms_backward", 9, 3, 2, nullptr, between::backward_scratch<Math>, operands(0, 5, 6),
     between::backward<Math>},
};

}  // namespace

OpList dot_between_norms_ops() { return op_list(list); }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
