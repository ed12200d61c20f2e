// The kernels of csrc/cuda/head_pool, on the host or, compiled by nvcc, on a GPU.
#include <stdexcept>
#include <string>

#include "cuda/common/ptx.cuh"
#include "cuda/launch.h"
#include "emulator/layer_cases.h"

namespace mnv2::test {
namespace {

// The kernels for large and for small batches are chosen by the number of multiprocessors.
constexpr cuda::Gpu one_sm{1, 80, 160 << 10}, many_sms{1000, 80, 160 << 10}, little_memory{1, 80, 48 << 10};

Bytes run_kernel(const cuda::Gpu& gpu, const HeadPoolParams& params, ScalarType packed_type, const Convolution& layer,
                 const Tensor& x, uint64_t schedule = schedules[0])
{
    set_schedule(schedule);
    const DeviceConvolution weights(layer);
    DeviceBuffer packed(static_cast<size_t>(cuda::head_pool_bytes(params, packed_type)));
    cuda::pack_head_pool(params, packed_type, weights.view(), packed.data(), nullptr);
    const DeviceBuffer input(x.bytes());
    DeviceBuffer output(static_cast<size_t>(outputs_of(params) * scalar_bytes(x.dtype())));
    cuda::head_pool(params, x.dtype(), packed_type, input.data(), packed.data(), output.data(), gpu, nullptr);
    return output.bytes();
}

auto run_on(const cuda::Gpu& gpu)
{
    return [&gpu](const HeadPoolParams& params, ScalarType packed_type, const Convolution& layer, const Tensor& x) {
        return run_kernel(gpu, params, packed_type, layer, x);
    };
}

const Sizes head_sizes = {{3, 1, 1}, {2, 5, 7}, {5, 7, 7}, {1, 8, 7}, {2, 3, 19}, {1, 11, 13}};

TEST(every_pair_of_types_is_accurate)
{
    for (const auto& [type, packed_type] : type_pairs)
        for (const cuda::Gpu* gpu : {&one_sm, &many_sms})
            check_layer(run_on(*gpu), head_of(48, 72), type, packed_type, head_sizes);
}

TEST(any_channels_will_do)
{
    for (const auto& [type, packed_type] : type_pairs)
        for (const int64_t in : {1, 3, 8, 16, 24, 33, 40, 100})
            for (const int64_t out : {1, 8, 17, 32, 40, 130})
                check_layer(run_on(small_gpu), head_of(in, out), type, packed_type, {{3, 2, 3}});
}

TEST(every_number_of_pixels_will_do)
{
    for (const auto& [type, packed_type] : type_pairs) {
        Sizes sizes;
        for (int64_t pixels = 1; pixels <= 60; ++pixels) sizes.push_back({1, 1, pixels});
        check_layer(run_on(small_gpu), head_of(8, 8), type, packed_type, sizes);
    }
}

TEST(options_are_honoured)
{
    for (const auto& [type, packed_type] : type_pairs)
        for (const Activation activation : activations) {
            HeadPoolParams params = head_of(24, 40);
            params.activation = activation;
            check_layer(run_on(small_gpu), params, type, packed_type, {{1, 5, 8}, {2, 3, 4}});
        }
}

TEST(inputs_beyond_shared_memory_come_in_parts)
{
    for (const ScalarType type : half_types)
        check_layer(run_on(little_memory), head_of(296, 136), type, type, {{5, 7, 7}, {1, 9, 13}});
}

TEST(the_networks_own_head_is_accurate)
{
    for (const cuda::Gpu* gpu : {&one_sm, &many_sms})
        check_layer(run_on(*gpu), head_of(320, 1280), ScalarType::float16, ScalarType::float16, {{1, 7, 7}});
}

TEST(a_second_accumulator_for_long_sums)
{
    for (const int64_t depth : {192, 320, 960}) {
        HeadPoolParams params = at_size(head_of(depth, 1), {1, 1, 1});
        params.activation = Activation::none;
        const int64_t ones = depth - longest_run;
        const Tensor x = Tensor::large_then_ones(longest_run - 1, ones);
        const Convolution layer = constant_convolution(1, depth, 1.0f);
        const Bytes y = run_kernel(small_gpu, params, ScalarType::float32, layer, x);
        CHECK_EQUAL(load_number(ScalarType::float32, y.data(), 0), 0x1p24 + static_cast<double>(ones));
    }
}

TEST(an_empty_batch_launches_nothing)
{
    const HeadPoolParams params = at_size(head_of(32, 32), {0, 7, 7});
    for (const auto& [type, packed_type] : type_pairs)
        cuda::head_pool(params, type, packed_type, nullptr, nullptr, nullptr, small_gpu, nullptr);
    CHECK(outputs_of(params) == 0);
}

TEST(more_pixels_than_kernels_count_are_refused)
{
    const HeadPoolParams params = at_size(head_of(8, 8), {1, 1 << 16, 1 << 15});
    for (const auto& [type, packed_type] : type_pairs) {
        std::string message;
        try {
            cuda::head_pool(params, type, packed_type, nullptr, nullptr, nullptr, small_gpu, nullptr);
        } catch (const std::runtime_error& error) {
            message = error.what();
        }
        CHECK_EQUAL(message, "an image has too many pixels to pool: 2147483648");
    }
}

TEST(every_schedule_gives_the_same_bits)
{
    for (const auto& [type, packed_type] : type_pairs)
        for (const cuda::Gpu* gpu : {&one_sm, &many_sms, &little_memory}) {
            const HeadPoolParams params = at_size(head_of(104, 264), {5, 8, 8});
            Random random(5);
            const LayerCase layer(random, params, type, Layout::nhwc);
            const Bytes first = run_kernel(*gpu, params, packed_type, layer.layer, layer.x);
            for (const uint64_t schedule : schedules)
                CHECK(run_kernel(*gpu, params, packed_type, layer.layer, layer.x, schedule) == first);
        }
}

// An image's bits do not depend on the kernel that the batch's size chooses.
TEST(an_image_has_the_same_bits_in_every_batch)
{
    for (const auto& [type, packed_type] : type_pairs) {
        const HeadPoolParams params = at_size(head_of(40, 264), {7, 7, 9});
        Random random(5);
        const LayerCase layer(random, params, type, Layout::nhwc);
        const Bytes all = run_kernel(one_sm, params, packed_type, layer.layer, layer.x);
        for (int64_t n = 0; n < params.batch; ++n) {
            const Bytes one =
                run_kernel(many_sms, at_size(params, {1, 7, 9}), packed_type, layer.layer, only_image(layer.x, n));
            CHECK(std::equal(one.begin(), one.end(), all.begin() + n * static_cast<std::ptrdiff_t>(one.size())));
        }
    }
}

TEST(a_nan_reaches_its_image_and_nothing_else)
{
    for (const auto& [type, packed_type] : type_pairs)
        for (const cuda::Gpu* gpu : {&one_sm, &many_sms}) {
            const HeadPoolParams params = at_size(head_of(24, 40), {5, 7, 7});
            Random random(3);
            LayerCase layer(random, params, type, Layout::nhwc);
            layer.x.set(2, 6, 6, 0, NAN);
            const Bytes y = run_kernel(*gpu, params, packed_type, layer.layer, layer.x);
            for (int64_t i = 0; i < outputs_of(params); ++i)
                CHECK_EQUAL(std::isnan(load_number(type, y.data(), i)), i / params.out_channels == 2);
        }
}

}  // namespace
}  // namespace mnv2::test
