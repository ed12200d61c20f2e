// The kernels of csrc/cuda/stem, on the host or, compiled by nvcc, on a GPU.
#include <cstdlib>

#include "cuda/common/ptx.cuh"
#include "cuda/launch.h"
#include "emulator/layer_cases.h"

namespace mnv2::test {
namespace {

Bytes run_kernel(const StemParams& params, ScalarType packed_type, const Convolution& layer, const Tensor& x, uint64_t schedule)
{
    set_schedule(schedule);
    const DeviceConvolution weights(layer);
    DeviceBuffer packed(static_cast<size_t>(cuda::stem_bytes(params, packed_type)));
    cuda::pack_stem(params, packed_type, weights.view(), packed.data(), nullptr);
    const DeviceBuffer input(x.bytes());
    DeviceBuffer output(static_cast<size_t>(outputs_of(params) * scalar_bytes(x.dtype())));
    cuda::stem(params, packed_type, x.view(input.data()), packed.data(), output.data(), small_gpu, nullptr);
    return output.bytes();
}

Bytes run_first(const StemParams& params, ScalarType packed_type, const Convolution& layer, const Tensor& x)
{
    return run_kernel(params, packed_type, layer, x, schedules[0]);
}

TEST(every_pair_of_types_is_accurate)
{
    for (const auto& [type, packed_type] : type_pairs)
        for (const int32_t stride : {1, 2}) check_layer(run_first, stem_of(3, 32, stride), type, packed_type, odd_sizes);
}

TEST(every_layout_is_read)
{
    for (const auto& [type, packed_type] : type_pairs)
        for (const Layout layout : layouts) {
            Scope scope("layout ", static_cast<int>(layout));
            for (const int32_t stride : {1, 2})
                check_layer(run_first, stem_of(3, 16, stride), type, packed_type, {{2, 7, 9}, {2, 5, 24}}, layout);
        }
}

TEST(any_channels_will_do)
{
    for (const auto& [type, packed_type] : type_pairs)
        for (const int64_t in : {1, 2, 3, 4, 5, 21, 22, 35})
            for (const int64_t out : {1, 7, 8, 24, 40, 67})
                for (const int32_t stride : {1, 2})
                    if ((in + out) % 2 == stride % 2 || in == 3)
                        check_layer(run_first, stem_of(in, out, stride), type, packed_type, {{1, 5, 3}});
}

TEST(options_are_honoured)
{
    for (const auto& [type, packed_type] : type_pairs)
        for (const Activation activation : activations)
            for (const Padding& padding : {Padding{0, 0, 0, 0}, Padding{0, 0, 1, 1}, Padding{1, 0, 0, 1}})
                for (const int32_t stride : {1, 2}) {
                    StemParams params = stem_of(3, 16, stride);
                    params.activation = activation;
                    params.padding = padding;
                    for (const Layout layout : {Layout::nchw, Layout::nhwc})
                        check_layer(run_first, params, type, packed_type, {{1, 5, 8}, {1, 3, 4}}, layout);
                }
}

TEST(larger_windows_are_right)
{
    for (const auto& [type, packed_type] : type_pairs)
        for (const int32_t kernel : {5, 7})
            for (const int64_t channels : {1, 3, 9})
                for (const int32_t stride : {1, 2}) {
                    StemParams params = stem_of(channels, 33, stride);
                    params.kernel = kernel;
                    params.padding = {kernel / 2, 1, 0, kernel / 2};
                    params.activation = Activation::silu;
                    check_layer(run_first, params, type, packed_type, {{1, 9, 19}, {2, 18, kernel}});
                }
}

TEST(tiles_cover_larger_images)
{
    for (const auto& [type, packed_type] : type_pairs) {
        check_layer(run_first, stem_of(3, 8, 1), type, packed_type, {{1, 34, 19}, {2, 17, 33}});
        check_layer(run_first, stem_of(3, 8, 2), type, packed_type, {{1, 37, 66}, {2, 65, 34}});
        check_layer(run_first, stem_of(22, 3, 2), type, packed_type, {{1, 35, 34}});
    }
}

TEST(the_networks_own_stem_is_accurate)
{
    check_layer(run_first, stem_of(3, 32), ScalarType::float16, ScalarType::float16, {{1, 224, 224}}, Layout::nchw);
}

TEST(a_second_accumulator_for_long_sums)
{
    constexpr int64_t run_channels = 8;
    for (const int64_t channels : {22, 24, 40}) {
        StemParams params = at_size(stem_of(channels, 1, 1), {1, 1, 1});
        params.activation = Activation::none;
        const int64_t ones = channels - run_channels;
        const Tensor x = Tensor::large_then_ones(run_channels - 1, ones);
        const Convolution layer = constant_convolution(1, depth_of(params), 1.0f);
        const Bytes y = run_first(params, ScalarType::float32, layer, x);
        CHECK_EQUAL(load_number(ScalarType::float32, y.data(), 0), 0x1p24 + static_cast<double>(ones));
    }
}

TEST(an_empty_batch_launches_nothing)
{
    const StemParams params = at_size(stem_of(3, 32), {0, 7, 5});
    for (const auto& [type, packed_type] : type_pairs)
        cuda::stem(params, packed_type, {nullptr, type, 0, 0, 0, 0}, nullptr, nullptr, small_gpu, nullptr);
    CHECK(outputs_of(params) == 0);
}

TEST(every_schedule_gives_the_same_bits)
{
    for (const auto& [type, packed_type] : type_pairs) {
        const StemParams params = at_size(stem_of(3, 40), {2, 35, 36});
        Random random(5);
        const LayerCase layer(random, params, type, Layout::nchw);
        const Bytes first = run_kernel(params, packed_type, layer.layer, layer.x, schedules[0]);
        for (const uint64_t schedule : schedules)
            CHECK(run_kernel(params, packed_type, layer.layer, layer.x, schedule) == first);
    }
}

TEST(an_image_has_the_same_bits_in_every_batch)
{
    for (const auto& [type, packed_type] : type_pairs) {
        const StemParams params = at_size(stem_of(3, 24), {3, 9, 35});
        Random random(5);
        const LayerCase layer(random, params, type, Layout::nhwc);
        const Bytes all = run_first(params, packed_type, layer.layer, layer.x);
        const Bytes one = run_first(at_size(params, {1, 9, 35}), packed_type, layer.layer, only_image(layer.x, 2));
        CHECK(std::equal(one.begin(), one.end(), all.end() - static_cast<std::ptrdiff_t>(one.size())));
    }
}

TEST(a_nan_reaches_its_neighbours_and_nothing_else)
{
    for (const auto& [type, packed_type] : type_pairs)
        for (const int32_t stride : {1, 2}) {
            const StemParams params = at_size(stem_of(3, 8, stride), {1, 9, 9});
            Random random(3);
            LayerCase layer(random, params, type, Layout::nhwc);
            layer.x.set(0, 4, 5, 0, NAN);
            const Bytes y = run_first(params, packed_type, layer.layer, layer.x);
            check_nans(y, params, type, [stride = stride](int64_t row, int64_t column) {
                return std::abs(row * stride - 4) <= 1 && std::abs(column * stride - 5) <= 1;
            });
        }
}

}  // namespace
}  // namespace mnv2::test
