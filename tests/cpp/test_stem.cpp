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

// An image of bytes, and the same image of the numbers that they stand for.
class BytesAndNumbers {
public:
    BytesAndNumbers(const StemParams& params, ScalarType dtype, Layout layout)
        : params_(params),
          random_(static_cast<Random::result_type>(params.width)),
          weights_(random_weights(random_, params)),
          table_(random_floats(random_, params.in_channels * byte_values, 0.2, 1.0)),
          strides_(strides_of(layout, params.height, params.width, params.in_channels)),
          numbers_(dtype, layout, params.batch, params.height, params.width, params.in_channels),
          bytes_(numbers_.bytes().size() / static_cast<size_t>(scalar_bytes(dtype)))
    {
        for (uint8_t& byte : bytes_) byte = static_cast<uint8_t>(random_());
        numbers_.fill([&](int64_t n, int64_t y, int64_t x, int64_t c) {
            const int64_t at = n * strides_.n + y * strides_.h + x * strides_.w + c * strides_.c;
            return table_[static_cast<size_t>(c * byte_values + bytes_[static_cast<size_t>(at)])];
        });
        params_.bytes_as = dtype;
    }

    // By every instruction set, with guard pages around every buffer.
    void check() const
    {
        StemParams of_numbers = params_;
        of_numbers.bytes_as.reset();
        const Operation<StemParams> operation(of_numbers, weights_, numbers_);
        for_each_isa(numbers_.dtype(), [&](const cpu::Kernels& kernels) {
            for (const Placement placement : placements)
                for (const Parallel& parallel : {on_threads<1>(), in_reverse()}) {
                    const Bytes expected = operation.run(kernels, placement, parallel);
                    CHECK(run(kernels, placement, parallel, expected.size()) == expected);
                }
        });
    }

private:
    Bytes run(const cpu::Kernels& kernels, Placement placement, const Parallel& parallel, size_t result_bytes) const
    {
        const Bytes packed = packed_by(
            params_, kernels.layout, [&](void* to) { pack_stem(params_, weights_.view(), kernels.layout, to, table_.data()); });
        const GuardedBuffer x(bytes_, placement), guarded_packed(packed, placement);
        const GuardedBuffer y(Bytes(result_bytes, dead_byte), placement);
        const InputView view{x.data(), *params_.bytes_as, strides_.n, strides_.c, strides_.h, strides_.w, true};
        launch(params_, view, guarded_packed.data(), y.data(), parallel);
        const auto* const first = static_cast<const uint8_t*>(y.data());
        return Bytes(first, first + result_bytes);
    }

    StemParams params_;
    Random random_;
    Convolution weights_;
    std::vector<float> table_;
    Strides strides_;
    Tensor numbers_;
    Bytes bytes_;
};

TEST(bytes_give_the_bits_of_the_numbers_that_they_stand_for)
{
    for (const ScalarType dtype : dtypes)
        for (const Layout layout : layouts)
            for (const Size& size : {Size{1, 1}, Size{3, 2}, Size{9, 37}}) {
                if (strides_of(layout, size.height, size.width, 3).c == 0) continue;  // numbers differ, but not bytes
                if (!is_sampled()) continue;
                StemParams params = sized(stem_of(3, 17, 2), size);
                params.batch = 2;
                const Scope scope(describe(params), ", ", name_of(dtype), ", layout ", static_cast<int>(layout));
                BytesAndNumbers(params, dtype, layout).check();
            }
}

TEST(bytes_with_any_padding_kernel_and_channels)
{
    for (const int32_t kernel : kernel_sizes)
        for (const int64_t channels : {1, 4, 22})
            for (const Padding& padding : paddings(kernel)) {
                if (!is_sampled()) continue;
                StemParams params = sized(stem_of(channels, 24, 1), {8, 7});
                params.kernel = kernel;
                params.padding = padding;
                const Scope scope(describe(params));
                BytesAndNumbers(params, ScalarType::float32, Layout::nhwc).check();
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
