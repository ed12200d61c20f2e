// The pair product: within its bounds of the reference, to the same bits however it is cut, its packed form, and which layers
// take it.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "block_cases.h"
#include "cpu/pair_choice.h"
#include "pairings.h"

namespace mnv2::test {
namespace {

using HeadCase = Case<HeadPoolParams>;

// Around groups of eight and sixteen depths, and around runs.
constexpr int64_t depths[] = {1, 7, 8, 9, 15, 16, 17, 23, 24, 32, 40, 96, 144, 191, 192, 200, 288, 300};

HeadPoolParams head(Size size, int64_t in_channels, int64_t out_channels)
{
    HeadPoolParams params = head_of(in_channels, out_channels);
    params.batch = 1;
    params.height = size.height;
    params.width = size.width;
    return params;
}

template <class Params>
void check_pairings(const Case<Params>& one)
{
    if (!is_sampled()) return;
    const Scope scope(one.description());
    const Operation<Params> operation(one);
    for_each_pairing(one.dtype, [&](const cpu::Kernels& kernels) { check_case_with(operation, kernels); });
}

TEST(every_depth)
{
    for (const int64_t depth : depths) {
        check_pairings(HeadCase{head({2, 3}, depth, 40)});
        check_pairings(BlockCase{block({3, 5}, depth, 24, 40)});
        check_pairings(BlockCase{block({3, 5}, 17, depth, 24)});
        check_pairings(BlockCase{with_residual(block({3, 5}, depth, 51, 0))});
    }
}

TEST(every_remainder_of_channels)
{
    for (int64_t channels = 1; channels <= 34; ++channels)
        for (const ScalarType dtype : dtypes) check_pairings(BlockCase{block({2, 3}, 24, channels, channels), dtype});
}

TEST(every_tile_height)
{
    for (int64_t width = 1; width <= 30; ++width)
        for (const int64_t channels : {3, 40}) {
            check_pairings(HeadCase{head({1, width}, 24, channels)});
            check_pairings(BlockCase{block({1, width}, 24, channels, channels)});
        }
}

TEST(varied_blocks_of_every_dtype_layout_and_activation)
{
    for (InvertedResidualParams params : varied_blocks())
        for (const ScalarType dtype : dtypes)
            for (const Layout layout : {Layout::nhwc, Layout::nchw_slice})
                for (const Activation activation : activations) {
                    params.activation = activation;
                    check_pairings(BlockCase{params, dtype, layout});
                }
}

TEST(equal_bits_for_any_threads_and_batch)
{
    for (InvertedResidualParams params : varied_blocks()) {
        params.batch = 3;
        const BlockCase one{params, ScalarType::float32, Layout::nchw};
        const Scope scope(one.description());
        const Operation<InvertedResidualParams> operation(one);
        for_each_pairing(one.dtype, [&](const cpu::Kernels& kernels) { check_equal_bits_with(operation, kernels); });
    }
    HeadPoolParams params = head({7, 7}, 96, 200);
    params.batch = 3;
    const Operation<HeadPoolParams> operation(HeadCase{params});
    for_each_pairing(ScalarType::float32, [&](const cpu::Kernels& kernels) { check_equal_bits_with(operation, kernels); });
}

// Wide layers of few pixels, which threads share by channels: a thread may not scale in place what all of them read.
TEST(equal_bits_where_threads_split_channels)
{
    for (const InvertedResidualParams& params : {block({3, 3}, 160, 320, 96), with_residual(block({3, 3}, 160, 960, 0))}) {
        const Operation<InvertedResidualParams> operation(BlockCase{params});
        for_each_pairing(ScalarType::float32, [&](const cpu::Kernels& kernels) {
            CHECK(cpu::choose_cuts(params, kernels.layout, cpu::cache_sizes(), 2).splits_channels);
            check_equal_bits_with(operation, kernels);
        });
    }
}

TEST(equal_bits_for_every_cache)
{
    for (const InvertedResidualParams& params : varied_blocks()) {
        const BlockCase one{params};
        const Scope scope(one.description());
        const Operation<InvertedResidualParams> operation(one);
        for_each_pairing(one.dtype, [&](const cpu::Kernels& kernels) {
            const Bytes expected = operation.run(kernels, Placement::ends_at_guard);
            for (const int64_t l2 : {int64_t{1}, int64_t{4} << 10, int64_t{32} << 10, int64_t{1} << 40}) {
                const cpu::BlockCuts cuts = cpu::choose_cuts(params, kernels.layout, {l2 / 16, l2}, 1);
                const cpu::BlockPlan plan = cpu::plan_block(params, kernels.layout, cuts);
                for (const Placement placement : placements) CHECK(operation.run_planned(kernels, plan, placement) == expected);
            }
        });
    }
}

// Not the plain product under another name.
TEST(other_bits_than_the_plain_product)
{
    const Operation<HeadPoolParams> head_operation(HeadCase{head({7, 7}, 96, 64)});
    const Operation<InvertedResidualParams> block_operation(BlockCase{block({7, 7}, 24, 144, 32)});
    for_each_pair_isa(ScalarType::float32, [&](const cpu::Kernels& plain) {
        const auto differ = [&](const auto& operation, bool expand, bool project) {
            const cpu::Kernels kernels = paired(plain, PairProduct::all, expand, project);
            return operation.run(kernels, Placement::ends_at_guard) != operation.run(plain, Placement::ends_at_guard);
        };
        CHECK(differ(head_operation, true, false));
        CHECK(differ(block_operation, true, false));
        CHECK(differ(block_operation, false, true));
        // Room alone changes nothing.
        CHECK(!differ(head_operation, false, false));
        CHECK(!differ(block_operation, false, false));
    });
}

TEST(not_a_number_and_infinity)
{
    for (const Activation activation : activations) {
        for (InvertedResidualParams params : varied_blocks()) {
            params.activation = activation;
            for_each_odd_value(params, Layout::nhwc, [](const Operation<InvertedResidualParams>& operation) {
                for_each_pairing(operation.x().dtype(), [&](const cpu::Kernels& kernels) { check_with(operation, kernels); });
            });
        }
        for (const int64_t depth : {24, 51, 200}) {
            HeadPoolParams params = head({7, 7}, depth, 40);
            params.activation = activation;
            for_each_odd_value(params, Layout::nchw, [](const Operation<HeadPoolParams>& operation) {
                for_each_pairing(operation.x().dtype(), [&](const cpu::Kernels& kernels) { check_with(operation, kernels); });
            });
        }
    }
}

// A head of one pixel of random values that a function of value and channel changes. No panel holds two depths, so that the
// plain product adds up in the order of depths, as pixels without pairs do.
constexpr int64_t one_pixel_channels = 44;

template <class Change>
Operation<HeadPoolParams> one_pixel(int64_t depth, const Change& change)
{
    HeadPoolParams params = head({1, 1}, depth, one_pixel_channels);
    params.activation = Activation::none;
    Random random(3);
    Convolution weights = random_convolution(random, params.out_channels, depth);
    weights.bias.clear();
    const std::vector<float> values = random_floats(random, depth, 0.2, 1.0);
    Tensor x(ScalarType::float32, Layout::nhwc, 1, 1, 1, depth);
    x.fill(
        [&](int64_t, int64_t, int64_t, int64_t c) { return change(static_cast<double>(values[static_cast<size_t>(c)]), c); });
    return {params, weights, x};
}

// Single depths and both of a pair.
TEST(an_odd_value_in_any_channel)
{
    for (const int64_t depth : {24, 200})
        for (const double odd : {NAN, INFINITY, -INFINITY})
            for (int64_t channel = 0; channel < depth; ++channel) {
                const auto operation = one_pixel(depth, [&](double value, int64_t c) { return c == channel ? odd : value; });
                for_each_pair_isa(ScalarType::float32, [&](const cpu::Kernels& plain) {
                    check_with(operation, paired(plain, PairProduct::safe, true, false));
                });
            }
}

Operation<HeadPoolParams> scaled_head(int64_t depth, double factor)
{
    return one_pixel(depth, [&](double value, int64_t) { return factor * value; });
}

// What is too large or too small to be scaled, zeros among them, has the plain product's bits.
TEST(pixels_out_of_range_are_computed_plainly)
{
    for (const int64_t depth : {8, 51, 96, 200, 300})
        for (const double factor : {0.0, 0x1p-100, 0x1p-60, 0x1p60, 0x1p100}) {
            const Operation<HeadPoolParams> operation = scaled_head(depth, factor);
            for_each_pair_isa(ScalarType::float32, [&](const cpu::Kernels& plain) {
                const Bytes expected = operation.run(plain, Placement::ends_at_guard);
                const cpu::Kernels kernels = paired(plain, PairProduct::safe, true, false);
                CHECK(operation.run(kernels, Placement::ends_at_guard) == expected);
            });
        }
}

// The error does not depend on how large a pixel is: a power of two goes straight through.
TEST(a_pixel_times_a_power_of_two)
{
    for (const int64_t depth : {24, 200})
        for (const double factor : {0x1p-30, 0x1p-1, 0x1p30}) {
            const Operation<HeadPoolParams> one = scaled_head(depth, 1.0), other = scaled_head(depth, factor);
            for_each_pair_isa(ScalarType::float32, [&](const cpu::Kernels& plain) {
                const cpu::Kernels kernels = paired(plain, PairProduct::safe, true, false);
                const Bytes expected = one.run(kernels, Placement::ends_at_guard);
                const Bytes got = other.run(kernels, Placement::ends_at_guard);
                for (size_t i = 0; i < one_pixel_channels; ++i)
                    CHECK_EQUAL(other.value_at(got, i), factor * one.value_at(expected, i));
            });
        }
}

TEST(a_channel_of_zeros_is_its_bias)
{
    Random random(3);
    const HeadPoolParams params = head({5, 3}, 51, 20);
    Convolution weights = random_convolution(random, 20, 51);
    weights.bias.assign(20, 1.5f);
    for (int64_t k = 0; k < 51; ++k) weights.weight[static_cast<size_t>(7 * 51 + k)] = 0.0f;
    const Operation<HeadPoolParams> operation(params, weights,
                                              Tensor::random(random, ScalarType::float32, Layout::nhwc, 1, 5, 3, 51));
    for_each_pairing(ScalarType::float32, [&](const cpu::Kernels& kernels) {
        CHECK_EQUAL(operation.value_at(operation.run(kernels, Placement::ends_at_guard), 7), 1.5);
    });
}

// --- the packed form ---------------------------------------------------------------------------------------------------

// Two of each sixteen depths' pairs have opposite signs; eight depths by themselves are a group.
TEST(the_pairs_of_a_depth)
{
    const auto pairs_of = [](int64_t depth) {
        std::string text;
        for (int64_t k = 0; k < depth; ++k) text += !starts_pair(k, depth) ? "." : is_opposite_pair(k) ? "-" : "+";
        return text;
    };
    CHECK_EQUAL(pairs_of(7), ".......");
    CHECK_EQUAL(pairs_of(9), "+.-.+....");
    CHECK_EQUAL(pairs_of(31), "+.-.+...-.+.....+.-.+..........");
}

// Panels of scale, bias and, for each run, a correction and its depths; looked up one value at a time.
void check_packed(int64_t depth, int64_t channels)
{
    const Scope scope(depth, " -> ", channels);
    const HeadPoolParams params = head_of(depth, channels);
    Random random(1);
    const Convolution weights = random_weights(random, params);
    const PackLayout layout{Isa::avx512, 16, 2, ScalarType::float32, PairProduct::safe, true, false};
    const std::vector<uint8_t> packed = pack(params, weights, layout);
    const int64_t runs = depth < 192 ? 1 : (depth + 95) / 96, run_depth = runs == 1 ? depth : 96;
    int64_t panel = header_bytes / 4;
    for (int64_t first = 0; first < channels;) {
        const int64_t width = channels - first > 16 ? 32 : 16;
        const auto at = [&](int64_t row, int64_t lane) {
            return load_number(ScalarType::float32, packed.data(), panel + row * width + lane);
        };
        for (int64_t lane = 0; lane < width && first + lane < channels; ++lane) {
            const auto c = static_cast<size_t>(first + lane);
            const auto weight = [&](int64_t k) {
                return static_cast<double>(weights.weight[c * static_cast<size_t>(depth) + static_cast<size_t>(k)]);
            };
            double products = 0.0, pairs = 0.0, squares = 0.0;
            for (int64_t k = 0; k < depth; ++k) {
                squares += weight(k) * weight(k);
                if (!starts_pair(k, depth)) continue;
                products += std::pow(weight(k) * weight(k + 1), 2.0);
                ++pairs;
            }
            const double least = squares / static_cast<double>(16 * depth);
            const double square = pairs > 0.0 ? std::max(std::sqrt(products / pairs), least) : least;
            const double scale = weights.scale.empty() ? 1.0 : static_cast<double>(weights.scale[c]),
                         times = scale / at(0, lane);
            CHECK(times * times * square > 0.49 && times * times * square < 2.01);
            int exponent;
            CHECK_EQUAL(std::frexp(times, &exponent), 0.5);
            CHECK_EQUAL(at(1, lane), weights.bias.empty() ? 0.0 : static_cast<double>(weights.bias[c]));
            int64_t row = 2;
            for (int64_t run = 0; run < runs; ++run) {
                double sum = 0.0, magnitude = 0.0;
                const int64_t correction = row++;
                for (int64_t k = run * run_depth; k < std::min((run + 1) * run_depth, depth); ++k) {
                    const bool is_second = k > 0 && starts_pair(k - 1, depth), negated = is_second && is_opposite_pair(k - 1);
                    const double sign = negated ? -1.0 : 1.0;
                    CHECK_EQUAL(at(row++, lane), sign * times * weight(k));
                    if (is_second) sum += sign * times * times * weight(k - 1) * weight(k);
                    magnitude += times * times * weight(k) * weight(k);
                }
                CHECK(std::fabs(at(correction, lane) + sum) <= float_step * magnitude);
            }
        }
        panel += width * (2 + runs + depth);
        first += width;
    }
    CHECK_EQUAL(panel * 4, static_cast<int64_t>(packed.size()));
    CHECK_EQUAL(packed_mismatch(packed.data(), static_cast<int64_t>(packed.size()), params), "");
    CHECK(packed_layout(packed.data()).expand_in_pairs);
}

TEST(a_layer_in_pairs_is_panels_with_corrections)
{
    for (const int64_t depth : depths)
        for (const int64_t channels : {1, 16, 17, 40, 70}) check_packed(depth, channels);
}

TEST(layers_in_pairs_need_room_and_a_kernel)
{
    const HeadPoolParams params = head_of(24, 40);
    Random random(1);
    const Convolution weights = random_weights(random, params);
    const auto mismatch = [&](const PackLayout& layout) {
        std::vector<uint8_t> packed(static_cast<size_t>(packed_bytes(params, layout)) + 4096);
        pack_head_pool(params, weights.view(), layout, packed.data());
        return packed_mismatch(packed.data(), packed_bytes(params, layout), params);
    };
    const std::string foreign = "expected packed weights, got bytes of another format";
    CHECK_EQUAL(mismatch({Isa::avx512, 16, 2, ScalarType::float32, PairProduct::all, true, true}), "");
    CHECK_EQUAL(mismatch({Isa::avx512, 16, 2, ScalarType::float32, PairProduct::safe, false, true}), foreign);
    CHECK_EQUAL(mismatch({Isa::avx2, 8, 2, ScalarType::float32, PairProduct::safe, false, false}), foreign);
    CHECK_EQUAL(mismatch({Isa::avx512, 16, 2, ScalarType::float32, static_cast<PairProduct>(3), false, false}), foreign);
}

// --- the choice --------------------------------------------------------------------------------------------------------

class NamedPairProduct {
public:
    explicit NamedPairProduct(const char* name) { setenv(variable, name, 1); }
    ~NamedPairProduct() { unsetenv(variable); }
    NamedPairProduct(const NamedPairProduct&) = delete;
    NamedPairProduct& operator=(const NamedPairProduct&) = delete;

private:
    static constexpr const char* variable = "MNV2_PAIR_PRODUCT";
};

TEST(only_kernels_with_a_pair_product_take_it)
{
    const NamedPairProduct named("all");
    for_each_isa([](const cpu::Kernels& kernels) {
        const PairProduct expected = kernels.has_pair_product() ? PairProduct::all : PairProduct::off;
        CHECK(cpu::select_pair_product(kernels) == expected);
        if (!kernels.has_pair_product()) CHECK(cpu::select_pair_product(kernels, PairProduct::safe) == PairProduct::off);
        CHECK_EQUAL(kernels.has_pair_product(), kernels.layout.isa == Isa::avx512);
    });
}

TEST(an_argument_overrides_the_variable_and_that_the_processor)
{
    for_each_pair_isa(ScalarType::float32, [](const cpu::Kernels& kernels) {
        const PairProduct by_processor = cpu::additions_are_free(kernels) ? PairProduct::safe : PairProduct::off;
        CHECK(cpu::select_pair_product(kernels) == by_processor);
        for (const PairProduct pairs : {PairProduct::off, PairProduct::safe, PairProduct::all}) {
            const NamedPairProduct named(pair_product_name(pairs));
            CHECK(cpu::select_pair_product(kernels) == pairs);
            CHECK(cpu::select_pair_product(kernels, PairProduct::safe) == PairProduct::safe);
        }
        const NamedPairProduct empty("");
        CHECK(cpu::select_pair_product(kernels) == by_processor);
    });
}

TEST(an_unknown_name_is_an_error_that_lists_the_choices)
{
    const NamedPairProduct named("on");
    for_each_isa([](const cpu::Kernels& kernels) {
        std::string message = "no error";
        try {
            cpu::select_pair_product(kernels);
        } catch (const std::runtime_error& error) {
            message = error.what();
        }
        CHECK_EQUAL(message, "MNV2_PAIR_PRODUCT: expected \"off\", \"safe\" or \"all\", got \"on\"");
    });
}

struct Chosen {
    bool expand, project;
    bool operator==(const Chosen&) const = default;
};

Chosen chosen(const cpu::Kernels& kernels, PairProduct pairs, const InvertedResidualParams& params, const BlockWeights& weights)
{
    const PackLayout layout = cpu::choose_pairs(pairs, kernels, params, weights.expand.view(), weights.project.view());
    CHECK(layout.pair_product == pairs);
    return {layout.expand_in_pairs, layout.project_in_pairs};
}

TEST(safe_takes_expands_and_all_takes_projects_too)
{
    Random random(1);
    const InvertedResidualParams params = block({1, 1}, 96, 144, 24), direct = without_expand(block({1, 1}, 24, 0, 16));
    const BlockWeights weights = random_weights(random, params), direct_weights = random_weights(random, direct);
    for_each_pair_isa(ScalarType::float32, [&](const cpu::Kernels& kernels) {
        CHECK(chosen(kernels, PairProduct::off, params, weights) == (Chosen{false, false}));
        CHECK(chosen(kernels, PairProduct::safe, params, weights) == (Chosen{true, false}));
        CHECK(chosen(kernels, PairProduct::all, params, weights) == (Chosen{true, true}));
        CHECK(chosen(kernels, PairProduct::safe, direct, direct_weights) == (Chosen{false, false}));
        CHECK(chosen(kernels, PairProduct::all, direct, direct_weights) == (Chosen{false, true}));
    });
}

bool takes_head(const cpu::Kernels& kernels, PairProduct pairs, int64_t depth, const Convolution& weights)
{
    return cpu::choose_pairs(pairs, kernels, head_of(depth, 40), weights.view()).expand_in_pairs;
}

// One pair far larger than the other weights: its square swallows what the pixel has to say.
TEST(safe_leaves_out_what_would_be_less_accurate)
{
    Random random(1);
    Convolution weights = random_convolution(random, 40, 64);
    for_each_pair_isa(ScalarType::float32, [&](const cpu::Kernels& kernels) {
        CHECK(takes_head(kernels, PairProduct::safe, 64, weights));
        for (size_t channel = 0; channel < 40; ++channel)
            weights.weight[channel * 64 + 16] = weights.weight[channel * 64 + 17] = 100.0f;
        CHECK(!takes_head(kernels, PairProduct::safe, 64, weights));
        CHECK(takes_head(kernels, PairProduct::all, 64, weights));
    });
}

TEST(weights_without_a_scale_are_left_out)
{
    for (const float odd : {NAN, INFINITY, 1e30f}) {
        Random random(1);
        Convolution weights = random_convolution(random, 40, 64), scaled = weights;
        weights.weight[70] = odd;
        scaled.scale.assign(40, odd);
        for_each_pair_isa(ScalarType::float32, [&](const cpu::Kernels& kernels) {
            CHECK(!takes_head(kernels, PairProduct::all, 64, weights));
            CHECK(!takes_head(kernels, PairProduct::all, 64, scaled));
        });
    }
    const Convolution zeros = constant_convolution(40, 64, 0.0f), narrow = constant_convolution(40, 7, 1.0f);
    for_each_pair_isa(ScalarType::float32, [&](const cpu::Kernels& kernels) {
        CHECK(!takes_head(kernels, PairProduct::safe, 64, zeros));
        CHECK(!takes_head(kernels, PairProduct::all, 7, narrow));
    });
}

}  // namespace
}  // namespace mnv2::test
