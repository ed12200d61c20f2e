// The fused block on every instruction set: against the reference, with guard pages on both sides of every buffer.
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "block_cases.h"

namespace mnv2::test {
namespace {

TEST(every_combination_of_channels)
{
    for (const int64_t in : channel_counts)
        for (const int64_t expanded : channel_counts)
            for (const int64_t out : channel_counts) check_case(BlockCase{block({2, 3}, in, expanded, out)});
}

// Every number of channels that a last vector may hold.
TEST(every_remainder_of_channels)
{
    for (int64_t channels = 1; channels <= 34; ++channels) {
        check_case(BlockCase{block({2, 3}, channels, 24, 16)});
        check_case(BlockCase{block({2, 3}, 16, channels, 24)});
        check_case(BlockCase{block({2, 3}, 16, 24, channels)});
        check_case(BlockCase{with_residual(block({2, 3}, channels, 24, 0)), ScalarType::bfloat16});
        check_case(BlockCase{without_expand(block({2, 3}, channels, 0, channels)), ScalarType::float16, Layout::nchw});
    }
}

TEST(every_channel_count_without_expand)
{
    for (const int64_t in : channel_counts) {
        check_case(BlockCase{with_residual(without_expand(block({3, 2}, in, 0, 0)))});
        for (const int64_t out : channel_counts) check_case(BlockCase{without_expand(block({2, 3}, in, 0, out))});
    }
}

TEST(every_size_stride_and_padding)
{
    for (const int32_t kernel : kernel_sizes)
        for (InvertedResidualParams params : {block({}, 17, 24, 8), without_expand(block({}, 17, 0, 8))}) {
            params.kernel = kernel;
            for_each_window(params, [](const InvertedResidualParams& one) { check_case(BlockCase{one}); });
        }
}

// Outputs are computed in groups of up to fourteen, which the ends of a row cut.
TEST(every_width_of_every_kernel)
{
    for (const int32_t kernel : kernel_sizes)
        for (int64_t width = 1; width <= 34; ++width)
            for (const Activation activation : {Activation::relu6, Activation::hardswish}) {
                InvertedResidualParams params = with_kernel(block({4, width}, 3, 40, 3), kernel);
                params.depthwise_activation = activation;
                check_case(BlockCase{params});
                check_case(BlockCase{strided(params), ScalarType::bfloat16});
            }
}

// A tile's height follows from the number of pixels; the tallest has 28.
TEST(every_tile_height)
{
    for (int64_t width = 1; width <= 30; ++width) {
        check_case(BlockCase{block({1, width}, 3, 24, 40)});
        check_case(BlockCase{block({1, width}, 200, 17, 3)});
        check_case(BlockCase{with_residual(block({3, width}, 17, 9, 0))});
        check_case(BlockCase{strided(block({3, width}, 8, 17, 24))});
    }
}

TEST(every_activation)
{
    for (const Activation activation : activations)
        for (const Activation project_activation : activations)
            for (InvertedResidualParams params : varied_blocks()) {
                params.activation = activation;
                params.project_activation = project_activation;
                check_case(BlockCase{params});
            }
}

TEST(an_activation_of_its_own_behind_the_depthwise_convolution)
{
    for (const Activation activation : activations)
        for (InvertedResidualParams params : varied_blocks())
            for (const ScalarType dtype : dtypes) {
                params.depthwise_activation = activation;
                check_case(BlockCase{params, dtype});
            }
}

TEST(every_dtype_and_layout)
{
    for (const ScalarType dtype : dtypes)
        for (const Layout layout : layouts)
            for (const int64_t channels : {1, 17, 24, 35}) {
                InvertedResidualParams params = with_residual(block({5, 7}, channels, 51, 0));
                params.batch = 2;
                check_case(BlockCase{params, dtype, layout});
                params = without_expand(block({4, 9}, channels, 0, 40));
                params.batch = 2;
                params.stride = 2;
                check_case(BlockCase{params, dtype, layout});
            }
}

template <class Choices>
auto pick(Random& random, const Choices& from)
{
    return from[random() % std::size(from)];
}

int64_t one_to(Random& random, int64_t most)
{
    return 1 + static_cast<int64_t>(random() % static_cast<Random::result_type>(most));
}

// What the tests above vary one at a time, all at once.
TEST(combinations_at_random)
{
    constexpr int cases = 200;
    Random random(1);
    for (int i = 0; i < cases; ++i) {
        const Size size = {one_to(random, 18), one_to(random, 34)};
        const int64_t in = pick(random, channel_counts), expanded = pick(random, channel_counts), out = one_to(random, 60);
        InvertedResidualParams params = block(size, in, expanded, out);
        if (random() % 3 == 0) params = without_expand(params);
        params = with_kernel(params, pick(random, kernel_sizes));
        params.batch = one_to(random, 3);
        params.activation = pick(random, activations);
        params.project_activation = pick(random, activations);
        if (random() % 3 == 0) params.depthwise_activation = pick(random, activations);
        if (random() % 3 == 0) {
            params = with_residual(params);
        } else {
            params.stride = static_cast<int32_t>(one_to(random, 2));
            params.padding = paddings(params.kernel)[random() % 16];
        }
        const BlockCase one{params, pick(random, dtypes), pick(random, layouts)};
        if (has_output(params)) check_case(one);
    }
}

TEST(an_empty_batch)
{
    for (const InvertedResidualParams& params : varied_blocks()) check_empty_batch(params);
}

TEST(equal_bits_for_any_threads_and_batch)
{
    for (InvertedResidualParams params : varied_blocks())
        for (const ScalarType dtype : dtypes) {
            params.batch = 3;
            check_equal_bits(BlockCase{params, dtype, Layout::nchw});
            params.batch = 1;
            check_equal_bits(BlockCase{params, dtype, Layout::nhwc});
        }
}

// Every way to cut a block that a plan may describe.
std::vector<cpu::BlockCuts> cuts_of(const InvertedResidualParams& params, const PackLayout& layout)
{
    std::vector<cpu::BlockCuts> all;
    const int64_t panel = layout.panel_vectors, rows = params.out_height();
    for (const int64_t strip_rows : {int64_t{1}, int64_t{2}, int64_t{3}, int64_t{5}, rows})
        for (const int64_t chunk_vectors : {panel, 2 * panel, 100 * panel})
            for (const bool shares_rows : {true, false})
                for (const int64_t segments : {1, 2, 3, 7}) {
                    const bool possible = (params.has_expand || shares_rows) && segments <= rows && strip_rows <= rows;
                    const bool alternates = segments != 2;
                    if (possible) all.push_back({strip_rows, chunk_vectors, shares_rows, false, segments, alternates});
                }
    return all;
}

void check_plans(const Operation<InvertedResidualParams>& operation, const cpu::Kernels& kernels)
{
    const InvertedResidualParams& params = operation.params();
    const Bytes chosen = operation.run(kernels, Placement::ends_at_guard);
    operation.check(chosen, kernels);
    for (const cpu::BlockCuts& cuts : cuts_of(params, kernels.layout)) {
        const Scope scope("strips of ", cuts.strip_rows, ", chunks of ", cuts.chunk_vectors,
                          cuts.shares_rows ? ", shared rows, " : ", ", cuts.segments, " segments",
                          cuts.alternates ? ", forwards and backwards" : "");
        const cpu::BlockPlan plan = cpu::plan_block(params, kernels.layout, cuts);
        for (const Placement placement : placements) CHECK(operation.run_planned(kernels, plan, placement) == chosen);
    }
}

TEST(equal_bits_for_every_plan)
{
    for (InvertedResidualParams params : varied_blocks())
        for (const ScalarType dtype : dtypes) {
            if (!is_sampled()) continue;
            const BlockCase one{params, dtype, Layout::nhwc_slice};
            const Scope scope(one.description());
            const Operation<InvertedResidualParams> operation(one);
            for_each_isa(dtype, [&](const cpu::Kernels& kernels) { check_plans(operation, kernels); });
        }
}

// Caches of any size lead to plans within what the kernels can do.
TEST(equal_bits_for_every_cache)
{
    for (const InvertedResidualParams& params : varied_blocks()) {
        if (!is_sampled()) continue;
        const BlockCase one{params};
        const Scope scope(one.description());
        const Operation<InvertedResidualParams> operation(one);
        for_each_isa([&](const cpu::Kernels& kernels) {
            const Bytes expected = operation.run(kernels, Placement::ends_at_guard);
            for (const int64_t l2 : {int64_t{1}, int64_t{4} << 10, int64_t{32} << 10, int64_t{256} << 10, int64_t{1} << 40})
                for (const int64_t threads : {1, 2, 64}) {
                    const cpu::BlockCuts cuts = cpu::choose_cuts(params, kernels.layout, {l2 / 16, l2}, threads);
                    const cpu::BlockPlan plan = cpu::plan_block(params, kernels.layout, cuts);
                    CHECK(operation.run_planned(kernels, plan, Placement::ends_at_guard) == expected);
                }
        });
    }
}

TEST(a_second_accumulator_for_long_sums)
{
    for (const int64_t depth : {192, 194, 200, 300, 576, 960}) {
        InvertedResidualParams expand = block({1, 1}, depth, 1, 1), project = without_expand(block({1, 1}, depth, 0, 1));
        expand.activation = project.activation = Activation::none;
        const int64_t ones = depth - longest_run;
        const Tensor x = Tensor::large_then_ones(longest_run - 1, ones);
        const Convolution sum = constant_convolution(1, depth, 1.0f), pass = constant_convolution(1, 1, 1.0f);
        check_long_sum(expand, BlockWeights{sum, constant_convolution(1, kernel_taps, 1.0f), pass}, x, ones);
        check_long_sum(project, BlockWeights{{}, constant_convolution(depth, kernel_taps, 1.0f), sum}, x, ones);
    }
}

TEST(not_a_number_and_infinity)
{
    for (const Activation activation : activations)
        for (InvertedResidualParams params : varied_blocks()) {
            params.activation = activation;
            check_odd_values(params, Layout::nhwc);
        }
}

}  // namespace
}  // namespace mnv2::test
