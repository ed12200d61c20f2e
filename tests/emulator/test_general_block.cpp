// The kernel of csrc/cuda/general_block, on the host or, compiled by nvcc, on a GPU, against the block by its definition. It
// may be as far from it as float32 arithmetic in short runs, rounded once to the tensors' type.
#include <tuple>

#include "cuda/common/ptx.cuh"
#include "cuda/launch.h"
#include "emulator/block_cases.h"
#include "emulator/block_kernels.h"

namespace mnv2::test {
namespace {

constexpr cuda::Gpu small_gpu{2, 80, 163 << 10};    // few multiprocessors: a thread block takes several tiles
constexpr cuda::Gpu large_gpu{132, 90, 227 << 10};  // many multiprocessors: tiles are small
constexpr cuda::Gpu middle_gpu{8, 80, 163 << 10};   // every kernel can serve small launches on it
constexpr cuda::Gpu gpus[] = {small_gpu, middle_gpu, large_gpu};

constexpr ScalarType all_types[] = {ScalarType::float32, ScalarType::float16, ScalarType::bfloat16};

// How a block is run.
struct Setting {
    ScalarType type = ScalarType::float32;         // the tensors'
    ScalarType packed_type = ScalarType::float32;  // the weights are packed for it
    cuda::Gpu gpu = small_gpu;
    uint64_t schedule = schedules[0];
};

Bytes run_kernel(const InvertedResidualParams& params, const Setting& by, const Weights& weights, const Image& x)
{
    set_schedule(by.schedule);
    const DeviceConvolution expand(weights.expand), depthwise(weights.depthwise), project(weights.project);
    DeviceBuffer packed(static_cast<size_t>(cuda::general_block_bytes(params, by.packed_type)));
    cuda::pack_general_block(params, by.packed_type, expand.view(), depthwise.view(), project.view(), packed.data(), nullptr);
    const DeviceBuffer input(encode_image(x, by.type));
    const int64_t outputs = params.batch * params.out_height() * params.out_width() * params.out_channels;
    DeviceBuffer output(static_cast<size_t>(outputs * scalar_bytes(by.type)));
    CHECK(general_block(params, by.type, input.data(), packed.data(), output.data(), by.gpu, nullptr));
    return output.bytes();
}

Bytes run_same_type(const InvertedResidualParams& params, ScalarType type, const Weights& weights, const Image& x)
{
    return run_kernel(params, {type, type}, weights, x);
}

void check_agreement(const InvertedResidualParams& params, const Setting& by, const Weights& weights, const Image& x)
{
    const Bytes got = run_kernel(params, by, weights, x);
    const Image expected =
        inverted_residual(params, x, {weights.expand, weights.depthwise, weights.project}, ScalarType::float32);
    for (size_t i = 0; i < expected.at.size(); ++i)
        CHECK(agrees(load_number(by.type, got.data(), static_cast<int64_t>(i)), expected.at[i], by.type));
}

InvertedResidualParams with_size(InvertedResidualParams params, const std::array<int64_t, 3>& size)
{
    std::tie(params.batch, params.height, params.width) = std::tuple_cat(size);
    return params;
}

void check_agreement(const InvertedResidualParams& params, const Setting& by, const Sizes& sizes)
{
    Scope scope(params.in_channels, " -> ", params.has_expand ? "" : "no ", params.expanded_channels, " -> ",
                params.out_channels, " stride ", params.stride, " ", name_of(by.type), " packed for ", name_of(by.packed_type));
    for (const auto& size : sizes) {
        Scope image(size[0], " of ", size[1], "x", size[2]);
        const InvertedResidualParams sized = with_size(params, size);
        Random random(static_cast<unsigned>(size[1] * 31 + size[2]));
        const Weights weights = random_weights(random, sized, by.type);
        check_agreement(sized, by, weights, random_image(random, sized, by.type));
    }
}

InvertedResidualParams without_expand(int64_t in, int64_t out, int32_t stride)
{
    InvertedResidualParams params = block_of(in, out, stride, in);
    params.has_expand = false;
    return params;
}

// Few channels and many, multiples of 8, of 4 and of nothing; every number of columns, and several slices.
const InvertedResidualParams channel_cases[] = {
    block_of(24, 24, 1, 144), block_of(16, 24, 2, 96),   block_of(1, 1, 1, 1),      block_of(3, 5, 2, 7),
    block_of(20, 52, 1, 36),  block_of(33, 33, 1, 65),   block_of(40, 90, 2, 50),   block_of(30, 131, 1, 45),
    block_of(12, 344, 1, 40), without_expand(32, 16, 1), without_expand(37, 37, 1), without_expand(70, 9, 2),
};

TEST(every_type_is_right)
{
    for (const InvertedResidualParams& params : channel_cases)
        for (const ScalarType type : all_types) check_agreement(params, {type, type}, odd_sizes);
}

TEST(weights_packed_for_float32_serve_every_type)
{
    for (const ScalarType type : {ScalarType::float16, ScalarType::bfloat16})
        for (const InvertedResidualParams& params : {channel_cases[0], channel_cases[5]})
            check_agreement(params, {type, ScalarType::float32}, odd_sizes);
}

TEST(tiles_for_many_multiprocessors_are_right)
{
    for (const InvertedResidualParams& params : channel_cases)
        check_agreement(params, {ScalarType::float32, ScalarType::float32, large_gpu}, odd_sizes);
}

TEST(half_precision_is_no_less_accurate_than_separate_layers)
{
    for (const InvertedResidualParams& params : {channel_cases[0], channel_cases[1], channel_cases[5]})
        for (const ScalarType type : {ScalarType::float16, ScalarType::bfloat16})
            check_accuracy(run_same_type, params, type, odd_sizes);
}

TEST(options_are_honoured)
{
    for (InvertedResidualParams params : {block_of(10, 10, 1, 40), block_of(8, 12, 2, 33), without_expand(9, 9, 1)})
        for (const Activation activation : {Activation::none, Activation::relu, Activation::relu6})
            for (const Activation project_activation : {Activation::none, Activation::relu, Activation::relu6}) {
                Scope scope(activation_name(activation), ", ", activation_name(project_activation));
                params.activation = activation;
                params.project_activation = project_activation;
                check_agreement(params, {}, {{2, 5, 7}});
            }
}

TEST(every_padding_is_honoured)
{
    for (InvertedResidualParams params : {block_of(4, 8, 1, 12), block_of(4, 8, 2, 12), without_expand(4, 8, 1)}) {
        params.has_residual = false;
        for (int32_t sides = 0; sides < 16; ++sides) {
            params.padding = {sides & 1, sides >> 1 & 1, sides >> 2 & 1, sides >> 3};
            Scope scope("padding ", sides);
            check_agreement(params, {}, {{2, 3, 3}, {1, 16, 15}, {1, 3, 20}});
        }
    }
}

TEST(no_output_and_no_image_are_served)
{
    InvertedResidualParams params = block_of(4, 4, 1, 8);
    params.padding = {0, 0, 0, 0};
    params.has_residual = false;
    check_agreement(params, {}, {{0, 5, 5}, {2, 2, 5}, {2, 5, 2}, {1, 3, 3}});
}

// Streamed inputs, deep sums and many slices.
TEST(wide_blocks_are_right)
{
    const Sizes sizes = {{2, 4, 5}, {1, 1, 1}};
    for (const InvertedResidualParams& params :
         {block_of(191, 40, 1, 64), block_of(192, 40, 2, 40), block_of(448, 448, 1, 70), block_of(1001, 20, 1, 37),
          block_of(24, 32, 1, 2000), block_of(8, 1500, 2, 33), without_expand(500, 500, 1)})
        for (const cuda::Gpu& gpu : gpus) check_agreement(params, {ScalarType::float32, ScalarType::float32, gpu}, sizes);
    for (const ScalarType type : {ScalarType::float16, ScalarType::bfloat16})
        for (const InvertedResidualParams& params : {block_of(200, 200, 1, 40), block_of(303, 24, 2, 65)})
            check_agreement(params, {type, type}, sizes);
}

// A value beside which a further 1 is lost, then ones: only sums in short runs keep most of them.
TEST(deep_sums_are_taken_in_runs)
{
    constexpr int64_t depth = 640;
    const auto identity = [](int64_t channels) {
        Convolution layer = constant_convolution(channels, kernel_taps, 0.0f);
        for (int64_t c = 0; c < channels; ++c) layer.weight[static_cast<size_t>(c * kernel_taps + kernel_taps / 2)] = 1.0f;
        return layer;
    };
    for (InvertedResidualParams params : {block_of(depth, 1, 1, 1), block_of(1, 1, 1, depth)}) {
        params = with_size(params, {1, 1, 1});
        params.activation = Activation::none;
        params.has_residual = false;
        Weights weights{constant_convolution(params.expanded_channels, params.in_channels, 1.0f),
                        identity(params.expanded_channels),
                        constant_convolution(params.out_channels, params.expanded_channels, 1.0f)};
        weights.expand.weight[0] = 0x1p24f;
        Image x(1, 1, 1, params.in_channels);
        for (Bounded& value : x.at) value.value = 1.0;
        check_agreement(params, {}, weights, x);
    }
}

InvertedResidualParams sample_of(const InvertedResidualParams& params)
{
    return with_size(params, {3, 12, 10});
}

TEST(every_schedule_and_every_cut_gives_the_same_bits)
{
    for (const InvertedResidualParams& params :
         {block_of(24, 24, 1, 80), block_of(200, 24, 2, 40), block_of(33, 180, 1, 40), without_expand(40, 40, 1)}) {
        const InvertedResidualParams sized = sample_of(params);
        Random random(7);
        const Weights weights = random_weights(random, sized, ScalarType::float32);
        const Image x = random_image(random, sized, ScalarType::float32);
        const Bytes first = run_kernel(sized, {}, weights, x);
        for (const cuda::Gpu& gpu : gpus)
            for (const uint64_t schedule : schedules)
                CHECK(run_kernel(sized, {ScalarType::float32, ScalarType::float32, gpu, schedule}, weights, x) == first);
    }
}

// Which kernel serves a block depends on the GPU and the batch.
TEST(every_kernel_gives_the_same_bits)
{
    for (const InvertedResidualParams& params : {block_of(24, 24, 1, 300), block_of(40, 60, 2, 72), block_of(200, 90, 1, 40),
                                                 block_of(33, 180, 1, 40), without_expand(70, 40, 1)}) {
        const InvertedResidualParams sized = with_size(params, {2, 7, 9});
        Random random(9);
        const Weights weights = random_weights(random, sized, ScalarType::float32);
        const Image x = random_image(random, sized, ScalarType::float32);
        const Bytes expected = run_kernel(sized, {}, weights, x);
        const DeviceConvolution expand(weights.expand), depthwise(weights.depthwise), project(weights.project);
        DeviceBuffer packed(static_cast<size_t>(cuda::general_block_bytes(sized, ScalarType::float32)));
        cuda::pack_general_block(sized, ScalarType::float32, expand.view(), depthwise.view(), project.view(), packed.data(),
                                 nullptr);
        const DeviceBuffer input(encode_image(x, ScalarType::float32));
        int64_t kernels = 0;
        for (const cuda::GeneralShape& shape : cuda::general_shapes) {
            if (!cuda::has_columns(shape, sized)) continue;
            Scope scope(sized.in_channels, " -> ", sized.out_channels, ", ", shape.warps, " warps, ", shape.pixels, " pixels");
            const cuda::GeneralPlan plan = cuda::general_plan_of(shape, sized, middle_gpu);
            CHECK(plan.fits());
            const DeviceBuffer output(expected.size());
            cuda::launch_plan(plan, ScalarType::float32, input.data(), packed.data(), output.data(), middle_gpu, nullptr);
            CHECK(output.bytes() == expected);
            ++kernels;
        }
        CHECK(kernels >= 2);
    }
}

TEST(an_image_alone_gives_the_same_bits)
{
    for (const ScalarType type : all_types)
        for (const auto& size : Sizes{{9, 2, 3}, {3, 12, 10}}) {
            InvertedResidualParams params = with_size(block_of(24, 24, 1, 80), size);
            Random random(8);
            const Weights weights = random_weights(random, params, type);
            const Image x = random_image(random, params, type);
            const Bytes together = run_kernel(params, {type, type}, weights, x);
            Bytes apart;
            params.batch = 1;
            const auto pixels = static_cast<std::ptrdiff_t>(x.at.size()) / x.batch;
            for (std::ptrdiff_t n = 0; n < x.batch; ++n) {
                Image one(1, x.height, x.width, x.channels);
                std::copy_n(x.at.begin() + n * pixels, pixels, one.at.begin());
                const Bytes y = run_kernel(params, {type, type}, weights, one);
                apart.insert(apart.end(), y.begin(), y.end());
            }
            CHECK(together == apart);
        }
}

TEST(batches_larger_than_a_grid_are_served)
{
    check_agreement(block_of(1, 2, 1, 1), {}, {{70'000, 1, 1}});
}

TEST(a_nan_reaches_its_neighbours_and_nothing_else)
{
    for (const InvertedResidualParams& params : {block_of(24, 24, 1, 144), block_of(33, 7, 1, 40), block_of(200, 8, 1, 33)}) {
        InvertedResidualParams sized = with_size(params, {1, 9, 9});
        sized.has_residual = false;
        Random random(3);
        const Weights weights = random_weights(random, sized, ScalarType::float32);
        Image x = random_image(random, sized, ScalarType::float32);
        x(0, 4, 5, 3).value = NAN;
        const Bytes y = run_kernel(sized, {}, weights, x);
        for (int64_t i = 0; i < 9 * 9 * sized.out_channels; ++i) {
            const int64_t row = i / sized.out_channels / 9, column = i / sized.out_channels % 9;
            const bool near = std::abs(row - 4) <= 1 && std::abs(column - 5) <= 1;
            CHECK_EQUAL(std::isnan(load_number(ScalarType::float32, y.data(), i)), near);
        }
    }
}

// relu6 makes numbers of infinities, which the channels that only fill a chunk must not turn into NaN.
TEST(an_infinity_is_clamped)
{
    for (const InvertedResidualParams& params : {block_of(10, 10, 1, 40), block_of(200, 8, 2, 33)}) {
        InvertedResidualParams sized = with_size(params, {1, 6, 6});
        sized.has_residual = false;
        Random random(4);
        Weights weights = random_weights(random, sized, ScalarType::float32);
        weights.expand.scale.clear();
        Image x = random_image(random, sized, ScalarType::float32);
        x(0, 2, 3, 1).value = INFINITY;
        check_agreement(sized, {}, weights, x);
    }
}

// MobileNetV2's blocks in float32, the larger images cut down.
TEST(every_block_of_v2_is_right)
{
    const std::pair<InvertedResidualParams, int64_t> blocks[] = {
        {without_expand(32, 16, 1), 30}, {block_of(16, 24, 2, 96), 30},   {block_of(24, 24, 1, 144), 29},
        {block_of(24, 32, 2, 144), 28},  {block_of(32, 32, 1, 192), 17},  {block_of(32, 64, 2, 192), 14},
        {block_of(64, 64, 1, 384), 14},  {block_of(64, 96, 1, 384), 7},   {block_of(96, 96, 1, 576), 7},
        {block_of(96, 160, 2, 576), 7},  {block_of(160, 160, 1, 960), 7}, {block_of(160, 320, 1, 960), 4},
    };
    for (const auto& [params, size] : blocks) check_agreement(params, {}, {{1, size, size}});
}

}  // namespace
}  // namespace mnv2::test
