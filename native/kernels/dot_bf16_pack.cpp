#include "kernels/dot_bf16_pack.h"

#include "kernels/transpose.h"
#include "runtime/pool.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

struct Columns {
    const float* weight;  // of the first column, at the first channel of the tap
    long row;             // floats between weights of neighbouring input channels
    int count, width;     // valid columns, and columns of the block
};

// Forward: depth runs along rows of the weights, columns lie side by side.
void pack_rows(const Columns& in, long depth, Pair* out) {
    for (long k = 0; k < depth; k += 2, out += in.width)
        for (int j = 0; j < in.width; j += VL) {
            const Mask mask = first_lanes(in.count - j);
            const float* low = in.weight + k * in.row + j;
            const Vec odd = k + 1 < depth ? load(low + in.row, mask) : Vec{};
            store_pairs(out + j, interleave(load(low, mask), odd));
        }
}

constexpr int strip = 16;       // columns transposed at once
constexpr long strip_run = 64;  // pairs of each

// out[k * width + j] = rows[j][k]
void transpose_strip(const bf16 (*rows)[2 * strip_run], long pairs, int width, Pair* out) {
    const float* in = reinterpret_cast<const float*>(rows);  // only moved, four at a time
    long k = 0;
    for (; k + 4 <= pairs; k += 4)
        for (int j = 0; j < strip && j < width; j += 4)
            transpose4(in + j * strip_run + k, strip_run, reinterpret_cast<float*>(out) + k * width + j, width);
    for (; k < pairs; k++)
        for (int j = 0; j < strip && j < width; j++) out[k * width + j] = pair_at(rows[j] + 2 * k);
}

// Backward data: depth lies side by side, `part` channels of each of the merged taps, which follow each other downwards
// `tap` floats apart.
void pack_columns(const Columns& in, long depth, long part, long tap, Pair* out) {
    alignas(64) bf16 rows[strip][2 * strip_run];
    for (int first = 0; first < in.width; first += strip)
        for (long begin = 0; begin < depth; begin += 2 * strip_run) {
            const long end = min_of(depth, begin + 2 * strip_run);
            for (int j = 0; j < strip; j++) {
                if (end - begin < 2 * strip_run || first + j >= in.count) __builtin_memset(rows[j], 0, sizeof rows[j]);
                if (first + j >= in.count) continue;
                const float* column = in.weight + (first + j) * in.row;
                for (long k = begin; k < end;) {
                    const long merged = k / part, stop = min_of(end, (merged + 1) * part);
                    for (; k < stop; k += VL) {
                        const Mask mask = first_lanes(stop - k);
                        store(rows[j] + (k - begin), load(column - merged * tap + (k - merged * part), mask), mask);
                    }
                    k = stop;
                }
            }
            transpose_strip(rows, (end - begin + 1) / 2, in.width, out + begin / 2 * in.width + first);
        }
}

}  // namespace

PairLayout pair_layout(const TapConv& c, int tile_vectors) {
    PairLayout l;
    l.width = tile_vectors * VL;
    l.blocks = static_cast<int>(ceil_div(c.columns, l.width));
    l.tap_pairs = ceil_div(c.depth, 2) * l.width;
    l.block_pairs = c.tap_count * l.tap_pairs;
    return l;
}

void pack_pairs(const ConvShape& s, bool transposed, const TapConv& c, const PairLayout& l, const float* weight,
                Pair* packed) {
    const long row = s.cout, tap_floats = s.group_cin() * row;
    const auto body = [&](long item) {
        const int tap = static_cast<int>(item % c.tap_count);
        const long index = item / c.tap_count;  // of the block among all groups'
        const int group = static_cast<int>(index / l.blocks), first = static_cast<int>(index % l.blocks) * l.width;
        const float* in = weight + c.taps[tap].weight * tap_floats + group * s.group_cout();
        Columns columns{in + first * (transposed ? row : 1), row, min_of(l.width, c.columns - first), l.width};
        Pair* out = packed + index * l.block_pairs + tap * l.tap_pairs;
        if (transposed)
            pack_columns(columns, c.depth, c.depth / c.merged, tap_floats, out);
        else
            pack_rows(columns, c.depth, out);
    };
    const long items = static_cast<long>(c.groups) * l.blocks * c.tap_count;
    if (l.pairs(c) > 16384)
        parallel(items, body);
    else
        for (long item = 0; item < items; item++) body(item);
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
