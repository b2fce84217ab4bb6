// Pointwise convolutions as parts of fused kernels.
#pragma once
#include "kernels/tap_run.h"
#include "kernels/weight_tile.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

// A pointwise convolution of a run of pixels, on the calling thread, with weights packed for it. Backward data is one,
// too: its depth are the outputs.
class Pointwise {
  public:
    Pointwise(int depth, int columns, const float* packed, const Epilogue& epilogue) {
        conv_.images = conv_.groups = conv_.merged = conv_.tap_count = 1;
        conv_.checked = false;
        conv_.depth = depth;
        conv_.columns = columns;
        conv_.in_image = conv_.out_image = conv_.out_origin = 0;
        for (int i = 0; i < 3; i++) {
            conv_.positions[i] = conv_.in[i] = conv_.step[i] = 1;
            conv_.in_stride[i] = depth;
            conv_.out_stride[i] = columns;
            conv_.taps[0].offset[i] = 0;
        }
        conv_.taps[0].weight = 0;
        const Tile tile = choose_tile(columns, many, false);
        job_ = {&conv_, panel_layout(conv_, tile.vectors), tile, false, packed, nullptr, false, nullptr, &epilogue};
    }
    Pointwise(const Pointwise&) = delete;
    Pointwise& operator=(const Pointwise&) = delete;

    // ahead: what the next run will read, as many pixels, fetched meanwhile; null: nothing.
    void run(const float* from, long pixels, float* to, const float* ahead = nullptr) {
        if (pixels == 0) return;
        job_.ahead = ahead;
        conv_.positions[2] = conv_.in[2] = static_cast<int>(pixels);
        run_taps_here(job_, from, to);
    }
    long packed_floats() const { return job_.layout.group_floats(); }
    // transposed: the weights are [columns][depth].
    void pack(const float* weight, bool transposed, float* packed) const {
        ConvShape shape{};
        shape.groups = 1;
        shape.cin = transposed ? conv_.columns : conv_.depth;
        shape.cout = transposed ? conv_.depth : conv_.columns;
        pack_panels(shape, transposed, conv_, job_.layout, weight, packed);
    }

  private:
    static constexpr long many = 1000;  // pixels; the tile must not depend on the band
    TapConv conv_;
    TapJob job_;
};

// Forward, backward data and backward weight of a run of pixels as kernels take them that are written once for float32
// and bf16.
struct PointwiseMath {
    using Stored = float;
    using Convolution = Pointwise;
    // Floats that add_products needs, aligned to a line.
    static long room(int, int, long) { return 0; }
    // out += x^T dy
    static void add_products(const float* x, int cin, const float* dy, int cout, long pixels, const Ahead<float>& ahead,
                             float*, float* out) {
        add_pointwise_products(x, cin, dy, cout, pixels, out, ahead);
    }
};

}  // namespace fovea::FOVEA_ISA_NAMESPACE
