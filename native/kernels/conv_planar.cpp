// Forward convolution by planar tiles.
#include "kernels/planar.h"
#include "kernels/tap_conv.h"
#include "runtime/memory.h"
#include "runtime/pool.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// All output positions of one band; `to` is the whole image.
void run_band(const PlanarTile& tile, int begin, int end, const float* copy, float* to) {
    const ConvShape& s = *tile.shape;
    const Planes& planes = *tile.planes;
    const int axis = planes.bands.axis;
    int first[3] = {0, 0, 0}, last[3] = {s.out[0], s.out[1], s.out[2]};
    first[axis] = begin;
    last[axis] = end;
    const Interleave write = find_interleave(s.cout);
    float sums[max_planar_channels * planar_rows * planar_width];
    for (int z = first[0]; z < last[0]; z++)
        for (int y = first[1]; y < last[1]; y += planar_rows) {
            const int rows = min_of(planar_rows, last[1] - y);
            const float* from = copy + (static_cast<long>(z - first[0]) * s.stride[0] * planes.bands.size[1] +
                                        static_cast<long>(y - first[1]) * s.stride[1]) *
                                           planes.pitch;
            for (long x = first[2]; x < last[2]; x += planar_width) {
                const long pixels = min_of(planar_width, last[2] - x);
                run_planar_tile(tile, from + (x - first[2]), rows, pixels, sums);
                for (int r = 0; r < rows; r++) {
                    float* row = to + ((static_cast<long>(z) * s.out[1] + y + r) * s.out[2] + x) * s.cout;
                    for (long v = 0; v < pixels; v += VL)
                        write(sums + r * planar_width + v, planar_rows * planar_width, row + v * s.cout,
                              min_of<long>(VL, pixels - v));
                }
            }
        }
}

}  // namespace

// Vector instructions for VL outputs: multiplications with what comes beside them, and the change of layout at both
// ends; lanes behind the end of a row are wasted, as are channels that fill no vector otherwise.
bool planar_pays(ConvPass pass, const ConvShape& s) {
    if (pass != ConvPass::forward || !planar_fits(s)) return false;
    const double depth = s.taps() * s.cin, rows = static_cast<double>(round_up(s.out[2], VL)) / s.out[2];
    const double planar = rows * (1.1 * depth * s.cout + 6 * s.cout) + (s.cin > 1 ? 2.5 * VL * s.cin : 0);
    const double channels = VL * (1.12 * depth + 6) * static_cast<double>(ceil_div(s.cout, VL));
    return planar < channels;
}

void plan_conv_planar(ConvPlan& plan) {
    plan.algorithm = ConvAlgorithm::planar;
    plan.tile_pixels = static_cast<int>(planar_width);
    plan.tile_vectors = planar_vectors;
    plan.packed_floats = plan.scratch_floats = 0;
}

void run_conv_planar(const ConvPlan& plan, int n, const float* from, const float* weight, float* to,
                     const Epilogue& epilogue) {
    const ConvShape& s = plan.shape;
    const long wanted = piece_count(s.macs(n));
    const Planes planes = make_planes(s, ceil_div(wanted, n), s.out[1] > 1 ? planar_rows : 1);
    const PlanarTile tile{&s, &planes, weight, &epilogue, s.stride[1] * planes.pitch};
    const long image_floats = s.in_pixels() * s.cin, out_floats = s.out_pixels() * s.cout;
    const long count = planes.bands.count, pieces = count * n, joined = ceil_div(pieces, wanted);
    parallel(ceil_div(pieces, joined), [&](long group) {
        float* copy = thread_scratch(planes.floats);
        const long first = group * joined;
        for (long piece = first; piece < min_of(pieces, first + joined); piece++) {
            const long image = piece / count;
            const int begin = static_cast<int>(piece % count) * planes.bands.positions;
            const int end = min_of(s.out[planes.bands.axis], begin + planes.bands.positions);
            copy_planes(s, planes, begin, end, from + image * image_floats, count > 1 || piece == first, copy);
            run_band(tile, begin, end, copy, to + image * out_floats);
        }
    });
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
