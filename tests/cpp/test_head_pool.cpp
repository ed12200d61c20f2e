// The head with its pool on every instruction set: against the reference, with guard pages on both sides of every buffer.
#include <cmath>
#include <cstdint>
#include <vector>

#include "cases.h"
#include "shapes.h"

namespace mnv2::test {
namespace {

using HeadPoolCase = Case<HeadPoolParams>;

TEST(every_combination_of_channels)
{
    for (const int64_t in : channel_counts)
        for (const int64_t out : channel_counts) check_case(HeadPoolCase{sized(head_of(in, out), {2, 3})});
}

// Every number of channels that a last vector may hold.
TEST(every_remainder_of_channels)
{
    for (int64_t channels = 1; channels <= 34; ++channels)
        for (const ScalarType dtype : dtypes) {
            check_case(HeadPoolCase{sized(head_of(channels, 24), {2, 3}), dtype});
            check_case(HeadPoolCase{sized(head_of(24, channels), {2, 3}), dtype});
        }
}

TEST(every_tile_height)
{
    for (int64_t pixels = 1; pixels <= 60; ++pixels)
        for (const int64_t out_channels : {3, 40}) check_case(HeadPoolCase{sized(head_of(17, out_channels), {1, pixels})});
}

// 4096 channels leave room for eight pixels in a strip, which ends within a row of the image.
TEST(strips_that_end_within_a_row)
{
    for (const Size& size : sizes) check_case(HeadPoolCase{sized(head_of(4096, 3), size)});
    check_case(HeadPoolCase{sized(head_of(4096, 17), {7, 7}), ScalarType::bfloat16, Layout::nchw_slice});
}

TEST(every_activation_dtype_and_layout)
{
    for (const Activation activation : activations)
        for (const ScalarType dtype : dtypes)
            for (const Layout layout : layouts)
                for (const int64_t in_channels : {1, 17, 200}) {
                    HeadPoolParams params = sized(head_of(in_channels, 51), {5, 3});
                    params.batch = 2;
                    params.activation = activation;
                    check_case(HeadPoolCase{params, dtype, layout});
                }
}

TEST(an_empty_batch)
{
    check_empty_batch(sized(head_of(320, 128), {7, 7}));
}

TEST(equal_bits_for_any_threads_and_batch)
{
    for (const ScalarType dtype : dtypes)
        for (const int64_t batch : {1, 3})
            for (const int64_t out_channels : {1, 17, 200}) {
                HeadPoolParams params = sized(head_of(96, out_channels), {7, 7});
                params.batch = batch;
                check_equal_bits(HeadPoolCase{params, dtype, Layout::nhwc});
            }
}

TEST(a_second_accumulator_for_long_sums)
{
    for (const int64_t depth : {192, 320, 960}) {
        HeadPoolParams params = sized(head_of(depth, 1), {1, 1});
        params.activation = Activation::none;
        const int64_t ones = depth - longest_run;
        check_long_sum(params, constant_convolution(1, depth, 1.0f), Tensor::large_then_ones(longest_run - 1, ones), ones);
    }
}

TEST(not_a_number_and_infinity)
{
    for (const Activation activation : activations) {
        HeadPoolParams params = sized(head_of(51, 40), {7, 7});
        params.batch = 2;
        params.activation = activation;
        check_odd_values(params, Layout::nchw);
    }
}

}  // namespace
}  // namespace mnv2::test
