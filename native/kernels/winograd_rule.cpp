// Which layers run by Winograd's algorithm: a cost model in multiply-adds. It was fitted to times of one thread on
// Zen 4 (bench/winograd.py) and of two on Zen 5, where everything but the products costs two to three times as many
// multiply-adds, as those are twice as fast; the constants lie between the two. Being ratios, they serve other vector
// widths, too.
#include "kernels/tap_conv.h"
#include "kernels/winograd.h"
#include "kernels/winograd_multiply.h"
#include "runtime/memory.h"
#include "runtime/options.h"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr int fewest_channels = 16;  // below, transforms cost more than products
// Transform of one element of the (m + 2)^2 matrices, arithmetic and memory: measured 3 to 9 and 6 to 18 on Zen 4, up
// to 36 on Zen 5.
constexpr double transform_2 = 12, transform_4 = 20;
// Backward weight with many sums transforms two activations in regions that wait for each other: measured 20 to 36 on
// two cores of Zen 4. With few sums a piece does everything in its own cache: 10 to 17 there (16 to 64 channels).
constexpr double weight_transform_2 = 20, weight_transform_4 = 32;
constexpr double own_transform_2 = 10, own_transform_4 = 14;
// One transformed weight, or its gradient: made from nine and written, or read, where it stays in a cache or not.
constexpr double near_weight = 6, far_weight = 16;
constexpr double far_from = (4 << 20) / 4;
// Plans of few images are taken for inference, which packs once and then only reads.
constexpr double packed_weight = 2;
constexpr int inference_below = 8;
// Direct tiles run at this many multiply-adds per multiply-add of the peak; forward and backward data with so few
// outputs that each value loaded is multiplied once or twice: at more.
constexpr double direct_overhead = 1.05, direct_overhead_narrow = 1.3;
constexpr int narrow = 16;
// What the better accuracy of the simpler algorithm is worth.
constexpr double worth = 0.9;

// Share of multiplications that a direct kernel does not skip as padding, which it does with enough images.
double direct_share(const ConvShape& s, int batch) {
    if (batch < 8) return 1;
    double share = 1;
    for (int i = 1; i < 3; i++) {
        long valid = 0;
        for (int tap = 0; tap < 3; tap++) {
            const int offset = tap - s.pad_lo[i];
            valid += max_of(0, min_of(s.out[i], s.in[i] - offset) - max_of(0, -offset));
        }
        share *= static_cast<double>(valid) / (3.0 * s.out[i]);
    }
    return share;
}

double winograd_cost(ConvPass pass, const ConvShape& s, int batch, int m) {
    const bool weight = pass == ConvPass::backward_weight;
    const long products = (m + 2) * (m + 2), tiles = batch * ceil_div(s.out[1], m) * ceil_div(s.out[2], m);
    const ProductTile tile = choose_product_tile(tiles, s.cout);
    const long vectors = weight ? choose_weight_product(s.cout).vectors : tile.vectors;
    const long columns = round_up(s.cout, vectors * VL), rows = weight ? tiles : round_up(tiles, tile.rows);
    const double weights = static_cast<double>(products) * s.cin * columns;
    const bool few_sums = winograd_has_few_sums(products * round_up(s.cin, VL) * columns, tiles);
    const double elements = static_cast<double>(products) * tiles * (round_up(s.cin, VL) + round_up(s.cout, VL));
    const bool packed_once =
        pass == ConvPass::forward && batch < inference_below && !winograd_has_few_tiles(pass, s, tiles);
    const double per_weight = packed_once ? packed_weight : weights > far_from ? far_weight : near_weight;
    const double four = !weight ? transform_4 : few_sums ? own_transform_4 : weight_transform_4;
    const double two = !weight ? transform_2 : few_sums ? own_transform_2 : weight_transform_2;
    return rows * weights + elements * (m == 4 ? four : two) + weights * per_weight;
}

int cheapest(ConvPass pass, const ConvShape& s, int batch) {
    const bool is_narrow = pass != ConvPass::backward_weight && s.cout <= narrow;
    const double direct =
        s.macs(batch) * (is_narrow ? direct_overhead_narrow : direct_overhead) * direct_share(s, batch);
    const double two = winograd_cost(pass, s, batch, 2), four = winograd_cost(pass, s, batch, 4);
    if (four < worth * min_of(direct, two)) return 4;
    return two < worth * direct ? 2 : 0;
}

}  // namespace

bool winograd_applies(const ConvShape& s) {
    if (s.groups != 1 || s.in[0] != 1 || s.out[0] != 1 || s.kernel[0] != 1 || s.pad_lo[0] != 0) return false;
    for (int i = 1; i < 3; i++)
        if (s.kernel[i] != 3 || s.stride[i] != 1 || s.dilation[i] != 1) return false;
    return max_of(s.cin, s.cout) <= static_cast<long>(zero_floats) / 8;  // a row of a window outside of the image
}

int choose_winograd(ConvPass pass, const ConvShape& shape, int batch) {
    switch (winograd_option()) {
        case WinogradOption::off:
            return 0;
        case WinogradOption::two:
            return 2;
        case WinogradOption::four:
            return 4;
        default:
            if (min_of(shape.cin, shape.cout) < fewest_channels) return 0;
            return cheapest(pass, pass == ConvPass::backward_data ? mirrored(shape) : shape, batch);
    }
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE
