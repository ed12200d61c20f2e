#include "cpu/pair_choice.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/launch.h"
#include "cpu/peak.h"

namespace mnv2::cpu {
namespace {

// Multiply-adds beside as many additions take as long as alone (1), or twice as long where the ports are shared.
constexpr double most_free = 1.4;

// What all expands and heads of two trained networks pass, on photographs (1.04 to 1.22; projects reach 1.56) as on pixels at
// random (1.06 to 1.18).
constexpr double largest_error_ratio = 1.25;

// So many that the ratio is known to some 2 %. A pixel's corrections are in all channels' errors, and the fewer depths, the
// more the ratio varies from pixel to pixel: by 15 % over 16 pixels at 16 depths, by 3 % at 160.
int64_t test_pixels(int64_t depth)
{
    return std::clamp<int64_t>(8192 / depth, 32, 256);
}

// Nearly normal numbers, the same ones every time: sums of four uniform ones, from splitmix64. A layer's pixels are scaled one
// by one, so their size does not matter.
std::vector<float> synthetic_pixels(int64_t count)
{
    std::vector<float> values(static_cast<size_t>(count));
    uint64_t state = 0;
    for (float& value : values) {
        uint64_t bits = state += 0x9e3779b97f4a7c15;
        bits = (bits ^ bits >> 30) * 0xbf58476d1ce4e5b9;
        bits = (bits ^ bits >> 27) * 0x94d049bb133111eb;
        bits ^= bits >> 31;
        int64_t sum = 0;
        for (int part = 0; part < 4; ++part) sum += static_cast<int64_t>(bits >> 16 * part & 0xffff);
        value = static_cast<float>(sum - 2 * 0xffff) * 0x1p-15f;
    }
    return values;
}

// The layer as the head of images of one pixel, whose results are its own.
class PairTest {
public:
    PairTest(const Kernels& kernels, const ConvolutionWeights& weights, int64_t depth, int64_t channels)
        : kernels_(kernels),
          weights_{weights.weight, weights.scale, nullptr},
          depth_(depth),
          channels_(channels),
          pixels_(test_pixels(depth)),
          x_(synthetic_pixels(depth * pixels_))
    {
    }

    // Of the pair product's errors, relative to those of the plain product.
    double ratio() const
    {
        PackLayout in_pairs = with_room_for(PairProduct::safe, kernels_);
        in_pairs.expand_in_pairs = true;
        const std::vector<float> plain = run(kernels_.layout), paired = run(in_pairs);
        double plain_error = 0.0, pair_error = 0.0;
        for (int64_t channel = 0; channel < channels_; ++channel) {
            const std::vector<double> truth = exact(channel);
            for (int64_t pixel = 0; pixel < pixels_; ++pixel) {
                const auto index = static_cast<size_t>(pixel * channels_ + channel);
                plain_error += square(plain[index] - truth[static_cast<size_t>(pixel)]);
                pair_error += square(paired[index] - truth[static_cast<size_t>(pixel)]);
            }
        }
        return std::sqrt(pair_error / plain_error);
    }

private:
    static double square(double x) { return x * x; }

    // A channel of all pixels.
    std::vector<double> exact(int64_t channel) const
    {
        std::vector<double> sums(static_cast<size_t>(pixels_));
        const float *weight = weights_.weight + channel * depth_, *x = x_.data();
        for (int64_t k = 0; k < depth_; ++k, ++weight)
            for (double& sum : sums) sum += double{*weight} * double{*x++};
        for (double& sum : sums) sum *= double{weights_.scale_of(channel)};
        return sums;
    }

    std::vector<float> run(const PackLayout& layout) const
    {
        HeadPoolParams params{};
        params.batch = pixels_;
        params.height = params.width = 1;
        params.in_channels = depth_;
        params.out_channels = channels_;
        params.activation = Activation::none;
        std::vector<char> packed(static_cast<size_t>(packed_bytes(params, layout)));
        pack_head_pool(params, weights_, layout, packed.data());
        std::vector<float> y(static_cast<size_t>(pixels_ * channels_));
        head_pool(params, {x_.data(), ScalarType::float32, 1, pixels_, 1, 1}, packed.data(), y.data(), {});
        return y;
    }

    const Kernels& kernels_;
    ConvolutionWeights weights_;
    int64_t depth_, channels_, pixels_;
    std::vector<float> x_;  // [depth][pixel]
};

bool should_be_in_pairs(PairProduct pairs, const Kernels& kernels, const ConvolutionWeights& weights, int64_t depth,
                        int64_t channels)
{
    if (pairs == PairProduct::off || !fits_pairs(weights, depth, channels)) return false;
    return pairs == PairProduct::all || PairTest(kernels, weights, depth, channels).ratio() <= largest_error_ratio;
}

}  // namespace

bool additions_are_free(const Kernels& kernels)
{
    if (!kernels.has_pair_product()) return false;
    static const bool are_free = measure_cost_of_additions(kernels) < most_free;
    return are_free;
}

PairProduct select_pair_product(const Kernels& kernels, std::optional<PairProduct> wanted)
{
    const char* named = std::getenv("MNV2_PAIR_PRODUCT");
    const bool is_named = named && *named;
    const std::optional<PairProduct> by_name = is_named ? pair_product_named(named) : std::nullopt;
    if (is_named && !by_name)
        throw std::runtime_error(std::string("MNV2_PAIR_PRODUCT: expected ") + expected_pair_products + ", got \"" + named +
                                 '"');
    if (!kernels.has_pair_product()) return PairProduct::off;
    if (wanted) return *wanted;
    if (by_name) return *by_name;
    return additions_are_free(kernels) ? PairProduct::safe : PairProduct::off;
}

PackLayout with_room_for(PairProduct pairs, const Kernels& kernels)
{
    PackLayout layout = kernels.layout;
    layout.pair_product = pairs;
    return layout;
}

PackLayout choose_pairs(PairProduct pairs, const Kernels& kernels, const InvertedResidualParams& params,
                        const ConvolutionWeights& expand, const ConvolutionWeights& project)
{
    PackLayout layout = with_room_for(pairs, kernels);
    layout.expand_in_pairs =
        params.has_expand && should_be_in_pairs(pairs, kernels, expand, params.in_channels, params.expanded_channels);
    layout.project_in_pairs =
        pairs == PairProduct::all && should_be_in_pairs(pairs, kernels, project, params.expanded_channels, params.out_channels);
    return layout;
}

PackLayout choose_pairs(PairProduct pairs, const Kernels& kernels, const HeadPoolParams& params,
                        const ConvolutionWeights& weights)
{
    PackLayout layout = with_room_for(pairs, kernels);
    layout.expand_in_pairs = should_be_in_pairs(pairs, kernels, weights, params.in_channels, params.out_channels);
    return layout;
}

}  // namespace mnv2::cpu
