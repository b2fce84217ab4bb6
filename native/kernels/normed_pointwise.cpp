// Backward of a pointwise convolution through the batch norm behind it, in float32.
#include "kernels/normed_pointwise.h"

#include "kernels/families.h"
#include "kernels/pointwise.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

const OpKernel list[] = {
    {"normed_pointwise_backward", 8, 3, 0, normed::backward<PointwiseMath>, normed::scratch<PointwiseMath>}};

}  // namespace

OpList normed_pointwise_ops() { return op_list(list); }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
