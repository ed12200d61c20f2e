// The stem on every instruction set: against the reference, with guard pages on both sides of every buffer.
#include <cmath>
#include <cstdint>
#include <vector>

#include "cases.h"
#include "shapes.h"

namespace mnv2::test {
namespace {

using StemCase = Case<StemParams>;

StemParams stem_of(Size size, int64_t in_channels, int64_t out_channels, int32_t stride)
{
    StemParams params{};
    params.batch = 1;
    params.height = size.height;
    params.width = size.width;
    params.in_channels = in_channels;
    params.out_channels = out_channels;
    params.stride = stride;
    return params;
}

TEST(every_combination_of_channels)
{
    for (const int64_t in : {1, 2, 3, 4, 17, 21, 22, 35})
        for (const int64_t out : channel_counts)
            for (const int32_t stride : {1, 2}) check_case(StemCase{stem_of({3, 5}, in, out, stride)});
}

// Every number of channels that a last vector may hold.
TEST(every_remainder_of_channels)
{
    for (int64_t channels = 1; channels <= 34; ++channels)
        for (const ScalarType dtype : dtypes) check_case(StemCase{stem_of({3, 5}, 3, channels, 2), dtype});
}

TEST(every_size_stride_and_padding)
{
    for (const Size& size : sizes)
        for (const int32_t stride : {1, 2})
            for (const Padding& padding : paddings())
                for (const Layout layout : {Layout::nchw, Layout::nhwc}) {
                    StemParams params = stem_of(size, 3, 24, stride);
                    params.padding = padding;
                    if (has_output(params)) check_case(StemCase{params, ScalarType::float32, layout});
                }
}

// A tile's height follows from the number of columns; the tallest has 28.
TEST(every_tile_height)
{
    for (int64_t width = 1; width <= 60; ++width)
        for (const int32_t stride : {1, 2})
            for (const int64_t out_channels : {3, 40}) check_case(StemCase{stem_of({2, width}, 3, out_channels, stride)});
}

TEST(every_activation_dtype_and_layout)
{
    for (const Activation activation : activations)
        for (const ScalarType dtype : dtypes)
            for (const Layout layout : layouts)
                for (const int64_t in_channels : {1, 3}) {
                    StemParams params = stem_of({9, 37}, in_channels, 17, 2);
                    params.batch = 2;
                    params.activation = activation;
                    check_case(StemCase{params, dtype, layout});
                }
}

TEST(an_empty_batch)
{
    check_empty_batch(stem_of({7, 5}, 3, 32, 2));
}

TEST(equal_bits_for_any_threads_and_batch)
{
    for (const ScalarType dtype : dtypes)
        for (const int64_t batch : {1, 3})
            for (const Size& size : sizes) {
                StemParams params = stem_of(size, 3, 32, 2);
                params.batch = batch;
                check_equal_bits(StemCase{params, dtype, Layout::nchw});
            }
}

// The stem's runs are of whole channels.
TEST(a_second_accumulator_for_long_sums)
{
    constexpr int64_t run_channels = longest_run / kernel_taps;
    for (const int64_t channels : {22, 24, 40}) {
        StemParams params = stem_of({1, 1}, channels, 1, 1);
        params.activation = Activation::none;
        const int64_t ones = channels - run_channels;
        check_long_sum(params, constant_convolution(1, kernel_taps * channels, 1.0f),
                       Tensor::large_then_ones(run_channels - 1, ones), ones);
    }
}

TEST(not_a_number_and_infinity)
{
    for (const Activation activation : activations) {
        StemParams params = stem_of({9, 13}, 3, 24, 2);
        params.activation = activation;
        check_odd_values(params, Layout::nchw);
    }
}

}  // namespace
}  // namespace mnv2::test
