// Where the tiles of a grid lie in an image and in memory.
#pragma once
#include "kernels/winograd_tiles.h"

namespace fovea::FOVEA_ISA_NAMESPACE {

// Walks the tiles of a grid in order.
struct TilePlace {
    long image;
    int y, x;  // first output

    TilePlace(const TileGrid& g, int m, long tile)
        : image(tile / g.per_image),
          y(static_cast<int>(tile % g.per_image) / g.across * m),
          x(static_cast<int>(tile % g.per_image) % g.across * m) {}

    // To the tile after `tiles`, which are no more than are left in this row.
    FOVEA_INLINE void next(const TileGrid& g, int m, long tiles = 1) {
        x += static_cast<int>(tiles) * m;
        if (x < g.out[1]) return;
        x = 0;
        y += m;
        if (y < g.out[0]) return;
        y = 0;
        image++;
    }
};

// Elements that lie some bytes apart, how many only the run knows: each is an operand of one load or store, a register
// times 1, 2 or 4. Left to itself, the compiler keeps 36 distances in memory and loads each before it is used.
class Steps {
  public:
    FOVEA_INLINE explicit Steps(long bytes) : one_(bytes), three_(3 * bytes), five_(5 * bytes) {
        asm("" : "+r"(one_), "+r"(three_), "+r"(five_));  // hides what they have in common
    }
    // Element i, 0 to 5.
    template <class E>
    FOVEA_INLINE E* from(E* first, int i) const {
        const long bytes = i == 5 ? five_ : i == 3 ? three_ : i * one_;
        return reinterpret_cast<E*>(reinterpret_cast<intptr_t>(first) + bytes);
    }

  private:
    long one_, three_, five_;
};

}  // namespace fovea::FOVEA_ISA_NAMESPACE
