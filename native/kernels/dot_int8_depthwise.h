// A row of a depthwise 3x3 on bytes, for kernels that make its inputs themselves.
#pragma once
#include "kernels/dot_int8_vec.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

struct Int8DepthwiseRow {
    const uint8_t* rows[3];             // of inputs, at column 0; in the padding: `padding`
    const uint8_t* padding;             // a row of inputs full of the zero point
    long pixel;                         // bytes of a pixel: channels, up to a multiple of four
    int width, out_width, stride, pad;  // stride 1 or 2
    const int8_t* packed;               // by int8_depthwise_pack
    Rounding rounding;
    uint8_t* out;
};
void int8_depthwise3_row(const Int8DepthwiseRow& row);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
