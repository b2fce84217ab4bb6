// Joins the dot-product kernels of the instruction set that this file is compiled for.
#include "kernels/dot_families.h"
#include "kernels/families.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

DotKernels dot_table();  // a function for table.cpp's reason
DotKernels dot_table() {
    return {
        FOVEA_ISA_NAME,
        bf16_conv_kernels(),
        {norm_ops(), elementwise_ops(), pool_ops(), binary_ops(), reduce_ops(), shape_ops(), rownorm_ops(),
         softmax_ops(), normed_depthwise_ops(), dot_inverted_ops(), dot_between_norms_ops()},
        int8_ops(),
    };
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
