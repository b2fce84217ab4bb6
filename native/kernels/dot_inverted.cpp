// Inverted residual blocks in bf16 (inverted.cpp has the formula): what is between the convolutions is rounded as
// where it is stored, the sum with the residual once. The widened rows are kept as pairs of neighbouring pixels, which
// is what the depthwise convolution multiplies.
#include "kernels/dot_bf16_depthwise3.h"
#include "kernels/dot_bf16_interleave.h"
#include "kernels/dot_families.h"
#include "kernels/dot_pointwise.h"
#include "kernels/inverted.h"
#include "kernels/op_tools.h"
#include "runtime/memory.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

// The widened rows of a band, as pairs of pixels with whole vectors of channels. A pair of zeros lies before the first
// row and behind each; the last row is nothing else.
class PairRows {
  public:
    PairRows(const InvertedBlock& s, int rows)
        : channels_(round_up(s.hidden, VL)), row_((ceil_div(s.width, 2) + 1) * channels_), rows_(rows) {}

    long pairs() const { return channels_ + (rows_ + 1) * row_; }
    long row_pairs() const { return row_; }
    void place(Pair* memory) {
        first_ = memory + channels_;
        clear(first_ - channels_, channels_);
        for (int i = 0; i < rows_; i++) clear(row(i + 1) - channels_, channels_);
        clear(row(rows_), row_);
    }
    Pair* row(int i) const { return first_ + i * row_; }
    const Pair* zeros_row() const { return row(rows_); }
    // What rows [from, from + count) hold becomes the first rows.
    void keep(int from, int count) {
        __builtin_memmove(row(0), row(from), static_cast<size_t>(count * row_) * sizeof(Pair));
    }
    Pair* pair(int i, int at) const { return row(i) + at * channels_; }

  private:
    static void clear(Pair* p, long count) { __builtin_memset(p, 0, static_cast<size_t>(count) * sizeof(Pair)); }

    const long channels_, row_;
    const int rows_;
    Pair* first_ = nullptr;
};

// What one piece needs of thread_scratch, and how it is divided.
struct Room {
    int band;
    PairRows rows;
    long deep_row;

    Room(const InvertedBlock& s, int out_rows)
        : band(s.band_rows(out_rows, PairRows(s, 0).row_pairs() * static_cast<long>(sizeof(Pair)), deep_of(s) * 2,
                           inverted_band_bytes)),
          rows(s, s.input_rows(band)),
          deep_row(deep_of(s)) {}
    static long deep_of(const InvertedBlock& s) { return s.out_width * round_up(s.hidden, VL); }
    long floats() const { return rows.pairs() + ceil_div(band * deep_row, 2); }
};

// As inverted.cpp's, where y, x and residual are bf16, and w holds what depthwise_pack_bf16 made of w and b.
void inverted_residual(const OpCall& call) {
    const InvertedBlock s(call.ints);
    const Epilogue wide = inverted_epilogue(call, in(call, 3), 0), deep = inverted_epilogue(call, nullptr, 1),
                   last = inverted_epilogue(call, in(call, 7), 2);
    const bf16 *x = in<bf16>(call, 1), *residual = in<bf16>(call, 8);
    bf16* y = out<bf16>(call, 0);
    const int channels = static_cast<int>(round_up(s.hidden, VL));
    parallel(call.n * s.splits, [&](long piece) {
        const int begin = s.first_row(piece % s.splits), end = s.first_row(piece % s.splits + 1);
        const bf16* image = x + piece / s.splits * s.height * s.in_row();
        const long out_image = piece / s.splits * s.out_height * s.out_row();
        Room room(s, end - begin);
        PairRows& rows = room.rows;
        Pair* memory = reinterpret_cast<Pair*>(thread_scratch(static_cast<size_t>(room.floats())));
        rows.place(memory);
        bf16* between = reinterpret_cast<bf16*>(memory + rows.pairs());
        PairPointwise up(s.cin, s.hidden, call.operand[2], wide), down(s.hidden, s.cout, call.operand[6], last);
        PairDepthwise row{{}, channels, s.stride, s.out_width, in<Pair>(call, 4), deep.clamp, deep.low, deep.high, {}};
        int first = 0, behind = 0;  // the rows that `rows` holds
        s.over_bands(begin, end, room.band, [&](int at, int until, int low, int high) {
            const int kept = max_of(0, behind - low);
            if (kept > 0) rows.keep(low - first, kept);
            const bf16* from = image + (low + kept) * s.in_row();
            if (s.expands && s.width % 2 == 0)
                up.run_interleaved(from, (high - low - kept) * static_cast<long>(s.width), s.width,
                                   [&](int i, int pair) { return rows.pair(kept + i, pair); });
            for (int i = low + kept; i < high; i++, from += s.in_row()) {
                if (!s.expands)
                    interleave_pixels(from, from + s.cin, 2L * s.cin, ceil_div(s.width, 2), s.width / 2, s.cin,
                                      channels, rows.row(i - low));
                else if (s.width % 2)
                    up.run_interleaved(from, s.width, s.width + 1,
                                       [&](int, int pair) { return rows.pair(i - low, pair); });
            }
            first = low;
            behind = high;
            for (int i = at; i < until;) {
                const int together = s.stride == 1 && i + 1 < until ? 2 : 1;
                for (int k = 0; k < 2 + together; k++) {
                    const int in_row = i * s.stride + k - s.pad;
                    row.in[k] = in_row >= low && in_row < high ? rows.row(in_row - low) : rows.zeros_row();
                }
                row.out[0] = between + (i - at) * room.deep_row;
                row.out[1] = together == 2 ? row.out[0] + room.deep_row : nullptr;
                depthwise3_pairs_row(row);
                i += together;
            }
            const long offset = out_image + at * s.out_row();
            down.run(between, channels, (until - at) * static_cast<long>(s.out_width), y + offset,
                     residual ? residual + offset : nullptr);
        });
    });
}

// packed, weight; ints: C_in, C_out. Room for C_out + 63 columns of (C_in + 1) / 2 pairs is enough on every
// instruction set.
void pack_pointwise(const OpCall& call) {
    const Epilogue none;
    const PairPointwise convolution(static_cast<int>(call.ints[0]), static_cast<int>(call.ints[1]), nullptr, none);
    convolution.pack(in(call, 1), false, call.operand[0]);
}

// packed, weight, bias (may be null); ints: channels. 13 words for each channel of whole vectors.
void pack_depthwise(const OpCall& call) {
    pack_depthwise3(in(call, 1), in(call, 2), static_cast<int>(call.ints[0]), out<Pair>(call, 0));
}

const OpKernel list[] = {
    {"pointwise_pack_bf16", 2, 2, 0, pack_pointwise, nullptr},
    {"depthwise_pack_bf16", 3, 1, 0, pack_depthwise, nullptr},
    {"inverted_residual", 9, 11, 6, nullptr, nullptr, operands(0, 1, 8), inverted_residual},
};

}  // namespace

OpList dot_inverted_ops() { return op_list(list); }

}  // namespace fovea::FOVEA_ISA_NAMESPACE
