// Pointwise convolutions in training with the batch norms around them, in float32.
#include "kernels/between_norms.h"

#include "kernels/families.h"
#include "kernels/pointwise.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

const OpKernel list[] = {
    {"pointwise_between_norms", 10, 3, 4, between::forward<PointwiseMath>, between::forward_scratch<PointwiseMath>},
    {"pointwise_between_norms_backward", 9, 3, 2, between::backward<PointwiseMath>,
     between::backward_scratch<PointwiseMath>},
};

}  // namespace

OpList between_norms_ops() { return op_list(list); }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
