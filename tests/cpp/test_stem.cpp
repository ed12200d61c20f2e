// The stem on every instruction set: against the reference, with guard pages on both sides of every buffer.
#include <cmath>
#include <cstdint>
#include <vector>

#include "cases.h"
#include "shapes.h"

namespace mnv2::test {
namespace {

using StemCase = Case<StemParams>;

TEST(every_combination_of_channels)
{
    for (const int64_t in : {1, 2, 3, 4, 17, 21, 22, 35})
        for (const int64_t out : channel_counts)
            for (const int32_t stride : {1, 2}) check_case(StemCase{sized(stem_of(in, out, stride), {3, 5})});
}

// Every number of channels that a last vector may hold.
TEST(every_remainder_of_channels)
{
    for (int64_t channels = 1; channels <= 34; ++channels)
        for (const ScalarType dtype : dtypes) check_case(StemCase{sized(stem_of(3, channels, 2), {3, 5}), dtype});
}

TEST(every_size_stride_and_padding)
{
    for (const Layout layout : {Layout::nchw, Layout::nhwc})
        for (const int32_t kernel : kernel_sizes) {
            StemParams params = stem_of(3, 24);
            params.kernel = kernel;
            for_each_window(params, [&](const StemParams& one) { check_case(StemCase{one, ScalarType::float32, layout}); });
        }
}

// A tile's height follows from the number of columns; the tallest has 28.
TEST(every_tile_height)
{
    for (int64_t width = 1; width <= 60; ++width)
        for (const int32_t stride : {1, 2})
            for (const int64_t out_channels : {3, 40})
                check_case(StemCase{sized(stem_of(3, out_channels, stride), {2, width})});
}

TEST(every_activation_dtype_and_layout)
{
    for (const Activation activation : activations)
        for (const ScalarType dtype : dtypes)
            for (const Layout layout : layouts)
                for (const int64_t in_channels : {1, 3}) {
                    StemParams params = sized(stem_of(in_channels, 17, 2), {9, 37});
                    params.batch = 2;
                    params.activation = activation;
                    check_case(StemCase{params, dtype, layout});
                }
}

TEST(an_empty_batch)
{
    check_empty_batch(sized(stem_of(3, 32, 2), {7, 5}));
}

TEST(equal_bits_for_any_threads_and_batch)
{
    for (const ScalarType dtype : dtypes)
        for (const int64_t batch : {1, 3})
            for (const Size& size : sizes) {
                StemParams params = sized(stem_of(3, 32, 2), size);
                params.batch = batch;
                check_equal_bits(StemCase{params, dtype, Layout::nchw});
            }
}

// The stem's runs are of whole channels.
TEST(a_second_accumulator_for_long_sums)
{
    constexpr int64_t run_channels = longest_run / kernel_taps;
    for (const int64_t channels : {22, 24, 40}) {
        StemParams params = sized(stem_of(channels, 1, 1), {1, 1});
        params.activation = Activation::none;
        const int64_t ones = channels - run_channels;
        check_long_sum(params, constant_convolution(1, kernel_taps * channels, 1.0f),
                       Tensor::large_then_ones(run_channels - 1, ones), ones);
    }
}

// A run has three channels, an odd number of ones: each may be rounded.
TEST(a_second_accumulator_for_long_sums_of_a_larger_kernel)
{
    constexpr int64_t run_channels = longest_run / taps_of(5);
    for (const int64_t channels : {8, 11, 40}) {
        StemParams params = sized(stem_of(channels, 1, 1), {1, 1});
        params.kernel = 5;
        params.padding = {2, 2, 2, 2};
        params.activation = Activation::none;
        const int64_t ones = channels - run_channels, runs = channels / run_channels + 1;
        check_long_sum(params, constant_convolution(1, params.taps() * channels, 1.0f),
                       Tensor::large_then_ones(run_channels - 1, ones), ones, static_cast<double>(runs));
    }
}

TEST(not_a_number_and_infinity)
{
    for (const Activation activation : activations)
        for (const int32_t kernel : kernel_sizes) {
            StemParams params = sized(stem_of(3, 24, 2), {9, 13});
            params.activation = activation;
            params.kernel = kernel;
            check_odd_values(params, Layout::nchw);
        }
}

}  // namespace
}  // namespace mnv2::test
