// Outputs that no tap reaches, stored as float or bf16.
#pragma once
#include "kernels/bf16.h"
#include "kernels/tap_conv.h"
#include "runtime/pool.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

// What outputs become that no tap reaches: the epilogue of 0.
template <class Out>
static void fill_untouched(const TapConv& c, Out* to, const Epilogue& e) {
    parallel(static_cast<long>(c.images) * c.positions[0] * c.positions[1], [&](long row) {
        const long y = row % c.positions[1], z = row / c.positions[1] % c.positions[0],
                   image = row / c.positions[1] / c.positions[0];
        Out* out = to + c.out_origin + image * c.out_image + z * c.out_stride[0] + y * c.out_stride[1];
        const int columns = c.groups * c.columns;
        for (int x = 0; x < c.positions[2]; x++, out += c.out_stride[2])
            for (int column = 0; column < columns; column += VL) {
                const Mask mask = first_lanes(columns - column);
                Vec v = e.bias ? load(e.bias + column, mask) : Vec{};
                if (e.clamp) v = at_most(at_least(v, broadcast(e.low)), broadcast(e.high));
                store(out + column, v, mask);
            }
    });
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
