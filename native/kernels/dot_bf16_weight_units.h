// The units that backward weight in bf16 copies: how a shape is cut into them, where their copies lie, the copying.
#pragma once
#include "kernels/conv.h"
#include "kernels/dot_bf16_weight_tile.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

constexpr long partial_floats = (8 << 20) / 4;  // all partial sums together
constexpr int tile_rows = pair_weight_panel_rows / 2, panel_rows = pair_weight_panel_rows;

// How one shape is cut: computed again from plan and n, never from threads.
struct PairCut {
    ConvShape s;     // axes of one tap keep only the input pixels that it meets: their stride is 1
    long images;     // of s; two make a pair
    long missing;    // pixels that the last image lacks, where one row of pixels is taken as two images
    long x_step[3];  // pixels of the whole input between neighbours of s
    long x_image;    // and between images
    bool merged;     // rows of the kernel joined with few channels, x copied with its padding
    int taps, rows;  // rows of dw per tap (and group)
    int vectors, width, row_tiles, blocks;  // per group
    int axis, bands, band;                  // output positions along axis are cut into bands of `band`
    long pairs;                             // of images per unit
    long units, sums;                       // units are spread over partial sums
    int row_parts, block_parts, group_parts;

    // Tiles have equal numbers of rows where the rows are one run, else tile_rows, as two of them are one panel of x.
    int row_begin(int tile) const {
        return merged ? static_cast<int>(static_cast<long>(rows) * tile / row_tiles) : min_of(rows, tile * tile_rows);
    }
    int panels() const { return static_cast<int>(ceil_div(rows, panel_rows)); }
    long x_pairs() const { return merged ? s.cin : static_cast<long>(s.groups) * panels() * panel_rows; }  // per pixel
    long dy_pairs() const { return static_cast<long>(s.groups) * blocks * width; }
    long parts() const { return static_cast<long>(row_parts) * block_parts * group_parts; }
};

PairCut make_cut(const ConvPlan& plan, int n);

// Groups, panels of rows and blocks of columns of one piece.
struct PairPart {
    int group_begin, group_end, panel_begin, panel_end, block_begin, block_end;
};

PairPart get_part(const PairCut& c, long index);

// Input positions along an axis that outputs begin .. end meet, inside of the image or with its padding.
struct Extent {
    int begin, end;
};

// Where a unit's copies lie: x as [panel][pixel][panel_rows], merged as [pixel][cin]; dy as [block][pixel][width].
struct PairUnit {
    long first, pairs;  // of images
    int begin, end;     // output positions along the axis
    Extent in[3];
    Pair *x, *dy;
    long in_pixels, out_pixels;  // of all pairs, of the copies

    int size(int i) const { return in[i].end - in[i].begin; }
};

PairUnit get_unit(const PairCut& c, long index, Pair* copies);
// Pairs of the copies of the largest unit.
long copy_pairs(const PairCut& c);
// Copies what a part needs of a unit.
void copy_unit(const PairCut& c, const PairUnit& u, const PairPart& part, const bf16* input, const bf16* grad_output);
// Copies all units, each to its own place, `copies` pairs apart.
void copy_all(const PairCut& c, long copies, const bf16* input, const bf16* grad_output, Pair* shared);

}  // namespace fovea::FOVEA_ISA_NAMESPACE
