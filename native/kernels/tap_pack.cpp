#include "kernels/tap_pack.h"

#include "kernels/transpose.h"
#include "runtime/pool.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// out[k * width + j] = in[j * stride + k] for k < depth, j < columns; 0 for the columns up to width.
void transpose_block(const float* in, long stride, long depth, int columns, int width, float* out) {
    const int whole = columns / 4 * 4;
    long k = 0;
    for (; k + 4 <= depth; k += 4) {
        for (int j = 0; j < whole; j += 4) transpose4(in + j * stride + k, stride, out + k * width + j, width);
        for (int j = whole; j < width; j++)
            for (int i = 0; i < 4; i++) out[(k + i) * width + j] = j < columns ? in[j * stride + k + i] : 0.0f;
    }
    for (; k < depth; k++)
        for (int j = 0; j < width; j++) out[k * width + j] = j < columns ? in[j * stride + k] : 0.0f;
}

void copy_rows(const float* in, long stride, long rows, int columns, int width, float* out) {
    for (int j = 0; j < width; j += VL) {
        const Mask mask = first_lanes(columns - j);
        const float* p = in + j;
        if (columns - j >= VL)
            for (long k = 0; k < rows; k++, p += stride) store(out + k * width + j, load(p));
        else
            for (long k = 0; k < rows; k++, p += stride) store(out + k * width + j, load(p, mask));
    }
}

}  // namespace

PanelLayout panel_layout(const TapConv& c, int tile_vectors) {
    PanelLayout l;
    l.width = tile_vectors * VL;
    l.blocks = static_cast<int>(ceil_div(c.columns, l.width));
    const int chunks = static_cast<int>(ceil_div(max_of(1, c.tap_count), max_step_taps));
    l.step_taps = static_cast<int>(ceil_div(max_of(1, c.tap_count), chunks));
    const long fitting = max_of(64L, hot_panel_floats / (static_cast<long>(l.step_taps) * l.width));
    l.step_depth = c.merged > 1 ? c.depth : ceil_div(c.depth, ceil_div(c.depth, fitting));
    l.block_floats = static_cast<long>(c.tap_count) * c.depth * l.width;
    return l;
}

int step_count(const TapConv& c, const PanelLayout& l) {
    return static_cast<int>(ceil_div(c.tap_count, l.step_taps) * ceil_div(c.depth, l.step_depth));
}

Step get_step(const TapConv& c, const PanelLayout& l, int index) {
    const int depths = static_cast<int>(ceil_div(c.depth, l.step_depth));
    Step s;
    s.tap_begin = index / depths * l.step_taps;
    s.tap_end = min_of(c.tap_count, s.tap_begin + l.step_taps);
    s.depth_begin = index % depths * l.step_depth;
    s.depth_end = min_of<long>(c.depth, s.depth_begin + l.step_depth);
    s.offset = (static_cast<long>(s.tap_begin) * c.depth + (s.tap_end - s.tap_begin) * s.depth_begin) * l.width;
    return s;
}

// Weights are [weight tap][cg][groups * og]. Merged taps: forward reads weight taps upwards, backward data downwards.
void pack_step(const ConvShape& shape, bool transposed, const TapConv& c, const PanelLayout& l, const Step& step,
               int group, int block, const float* weight, float* out) {
    const int cg = shape.group_cin(), og = shape.group_cout(), first = block * l.width;
    const int columns = min_of(l.width, c.columns - first);
    const long row = shape.cout, depth = step.depth_end - step.depth_begin;
    for (int t = step.tap_begin; t < step.tap_end; t++, out += depth * l.width) {
        if (!transposed) {
            const float* in = weight + (static_cast<long>(c.taps[t].weight) * cg + step.depth_begin) * row + group * og;
            copy_rows(in + first, row, depth, columns, l.width, out);
            continue;
        }
        const long part = depth / c.merged;
        for (int m = 0; m < c.merged; m++) {
            const float* in = weight + (static_cast<long>(c.taps[t].weight - m) * cg + first) * row + group * og;
            transpose_block(in + step.depth_begin, row, part, columns, l.width, out + m * part * l.width);
        }
    }
}

void pack_panels(const ConvShape& shape, bool transposed, const TapConv& c, const PanelLayout& l, const float* weight,
                 float* packed) {
    const int steps = step_count(c, l);
    const long items = static_cast<long>(c.groups) * l.blocks * steps;
    const auto body = [&](long item) {
        const Step step = get_step(c, l, static_cast<int>(item % steps));
        const int block = static_cast<int>(item / steps % l.blocks), group = static_cast<int>(item / steps / l.blocks);
        pack_step(shape, transposed, c, l, step, group, block, weight,
                  packed + group * l.group_floats() + block * l.block_floats + step.offset);
    };
    if (c.groups * l.group_floats() > 16384)
        parallel(items, body);
    else
        for (long item = 0; item < items; item++) body(item);
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
