// Joins the kernel families of the instruction set that this file is compiled for.
#include "kernels/table.h"

#include "kernels/families.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

// A function, not a constant: what fills the table may use instructions that this CPU lacks, so it runs only when
// chosen.
KernelTable kernel_table();
KernelTable kernel_table() {
    return {
        FOVEA_ISA_NAME,
        VL,
        conv_kernels(),
        random_kernels(),
        peak_kernels(),
        {{elementwise_ops(), norm_ops(), rownorm_ops(), softmax_ops(), pool_ops(), binary_ops(), shape_ops(),
          reduce_ops(), loss_ops(), lossvalue_ops(), lossoverlap_ops(), optimizer_ops(), inverted_ops(),
          conv_pool_ops(), normed_depthwise_ops(), normed_pointwise_ops(), between_norms_ops()}},
    };
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
