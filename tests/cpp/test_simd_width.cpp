// The kernels with vectors of 8 and 16 lanes, whatever this machine's processor has.
#include <cstdint>

#include "block_cases.h"
#include "cases.h"
#include "wide_scalars.h"

namespace mnv2::test {
namespace {

template <class Params>
void check_widths_of(const Operation<Params>& operation)
{
    for (const cpu::Kernels* kernels : {&scalar8_kernels, &scalar16_kernels}) {
        const Scope width(kernels->name);
        check_with(operation, *kernels);
    }
}

template <class Params>
void check_widths(const Case<Params>& one)
{
    if (!is_sampled()) return;
    const Scope scope(one.description());
    check_widths_of(Operation<Params>(one));
}

TEST(the_tables_have_the_widths_of_their_names)
{
    CHECK_EQUAL(scalar8_kernels.layout.vector_width, 8);
    CHECK_EQUAL(scalar16_kernels.layout.vector_width, 16);
}

TEST(blocks)
{
    for (const int64_t in : channel_counts)
        for (const int64_t expanded : {3, 17, 96, 201})
            for (const int64_t out : channel_counts) check_widths(BlockCase{block({2, 3}, in, expanded, out)});
    for (int64_t channels = 1; channels <= 34; ++channels)
        check_widths(BlockCase{with_residual(block({2, 3}, channels, channels, 0))});
    for (const InvertedResidualParams& params : varied_blocks())
        for (const ScalarType dtype : dtypes)
            for (const Layout layout : {Layout::nhwc, Layout::nchw}) check_widths(BlockCase{params, dtype, layout});
}

TEST(blocks_of_every_size_stride_and_padding)
{
    for_each_window(block({}, 3, 24, 17), [](const InvertedResidualParams& one) { check_widths(BlockCase{one}); });
    for (int64_t width = 1; width <= 20; ++width) check_widths(BlockCase{with_residual(block({2, width}, 8, 17, 0))});
}

// What an infinite value makes of the lanes past the last channel reaches no result, in odd depths of two at a time either.
TEST(not_a_number_and_infinity)
{
    for (const InvertedResidualParams& params : varied_blocks())
        for_each_odd_value(params, Layout::nhwc, check_widths_of<InvertedResidualParams>);
}

TEST(stems)
{
    for (const int64_t in : {1, 3, 22})
        for (const int64_t out : channel_counts)
            for (const ScalarType dtype : dtypes)
                check_widths(Case<StemParams>{sized(stem_of(in, out), {5, 19}), dtype, Layout::nchw});
}

TEST(heads)
{
    for (const int64_t in : channel_counts)
        for (const int64_t out : channel_counts)
            for (const ScalarType dtype : dtypes)
                check_widths(Case<HeadPoolParams>{sized(head_of(in, out), {3, 3}), dtype, Layout::nhwc});
}

}  // namespace
}  // namespace mnv2::test
