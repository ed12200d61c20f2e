// The kernel of csrc/cuda/general_block, on the host or, compiled by nvcc, on a GPU, against the block by its definition. It
// may be as far from it as float32 arithmetic in short runs, rounded once to the tensors' type.
#include <utility>

#include "cuda/common/ptx.cuh"
#include "cuda/launch.h"
#include "emulator/block_cases.h"
#include "shapes.h"

namespace mnv2::test {
namespace {

constexpr cuda::Gpu small_gpu{2, 80, 163 << 10};    // few multiprocessors: a thread block takes several tiles
constexpr cuda::Gpu large_gpu{132, 90, 227 << 10};  // many multiprocessors: tiles are small
constexpr cuda::Gpu middle_gpu{8, 80, 163 << 10};   // every kernel can serve small launches on it
constexpr cuda::Gpu gpus[] = {small_gpu, middle_gpu, large_gpu};

// The kernel by weights packed for float32, or for the tensors' own type.
struct GeneralKernel {
    bool packs_float32 = false;

    Bytes run(const BlockCase& block, const cuda::Gpu& gpu = small_gpu, uint64_t schedule = schedules[0]) const
    {
        set_schedule(schedule);
        const InvertedResidualParams& params = block.params;
        const ScalarType packed_type = packs_float32 ? ScalarType::float32 : block.type;
        return run_on_device(
            block, cuda::general_block_bytes(params, packed_type),
            [&](const auto& expand, const auto& depthwise, const auto& project, void* packed) {
                cuda::pack_general_block(params, packed_type, expand, depthwise, project, packed, nullptr);
            },
            [&](const void* x, const void* packed, void* y) { general_block(params, block.type, x, packed, y, gpu, nullptr); });
    }
};

constexpr GeneralKernel general_kernel;

Bytes run_small(const BlockCase& block)
{
    return general_kernel.run(block);
}

void check_agreement(const BlockCase& block, const Bytes& got)
{
    const Image expected = inverted_residual(block.params, block.x, block.weights, ScalarType::float32);
    for (size_t i = 0; i < expected.at.size(); ++i)
        CHECK(agrees(load_number(block.type, got.data(), static_cast<int64_t>(i)), expected.at[i], block.type));
}

void check_agreement(const InvertedResidualParams& params, const Sizes& sizes, ScalarType type = ScalarType::float32,
                     const cuda::Gpu& gpu = small_gpu, const GeneralKernel& kernel = general_kernel)
{
    Scope scope(params.in_channels, " -> ", params.has_expand ? "" : "no ", params.expanded_channels, " -> ",
                params.out_channels, " stride ", params.stride, " ", name_of(type));
    for (const auto& size : sizes) {
        Scope image(size[0], " of ", size[1], "x", size[2]);
        const BlockCase block(at_size(params, size), type);
        check_agreement(block, kernel.run(block, gpu));
    }
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
        for (const ScalarType type : dtypes) check_agreement(params, odd_sizes, type);
}

TEST(weights_packed_for_float32_serve_every_type)
{
    for (const ScalarType type : half_types)
        for (const InvertedResidualParams& params : {channel_cases[0], channel_cases[5]})
            check_agreement(params, odd_sizes, type, small_gpu, GeneralKernel{true});
}

TEST(tiles_for_many_multiprocessors_are_right)
{
    for (const InvertedResidualParams& params : channel_cases)
        check_agreement(params, odd_sizes, ScalarType::float32, large_gpu);
}

TEST(half_precision_is_no_less_accurate_than_separate_layers)
{
    for (const InvertedResidualParams& params : {channel_cases[0], channel_cases[1], channel_cases[5]})
        for (const ScalarType type : half_types) check_accuracy(run_small, params, type, odd_sizes);
}

TEST(options_are_honoured)
{
    for (InvertedResidualParams params : {block_of(10, 10, 1, 40), block_of(8, 12, 2, 33), without_expand(9, 9, 1)})
        for (const Activation activation : activations)
            for (const Activation other : activations) {
                Scope scope(activation_name(activation), ", ", activation_name(other));
                params.activation = activation;
                params.depthwise_activation = params.project_activation = other;
                check_agreement(params, {{2, 5, 7}});
            }
}

TEST(every_padding_is_honoured)
{
    for (InvertedResidualParams params : {block_of(4, 8, 1, 12), block_of(4, 8, 2, 12), without_expand(4, 8, 1)})
        for (const int32_t kernel : kernel_sizes)
            for (const Padding& padding : paddings(kernel)) {
                params.kernel = kernel;
                params.padding = padding;
                params.has_residual = false;
                check_agreement(params, {{2, kernel, kernel}, {1, 16, 15}, {1, kernel, 20}});
            }
}

TEST(larger_windows_are_right)
{
    for (const int32_t kernel : {5, 7})
        for (const InvertedResidualParams& params :
             {block_of(20, 20, 1, 70), block_of(16, 24, 2, 40), block_of(200, 9, 1, 33), without_expand(37, 37, 1)})
            for (const cuda::Gpu& gpu : gpus) check_agreement(with_kernel(params, kernel), odd_sizes, ScalarType::float32, gpu);
}

// Infinities of float32, and what exponentials of them are.
TEST(curves_are_right_far_from_zero)
{
    for (const Activation activation : {Activation::hardswish, Activation::silu}) {
        InvertedResidualParams params = without_expand(1, 1, 1);
        params.has_residual = false;
        params.activation = activation;
        const std::vector<double> values = {-1e30, -100.0, -88.5, -80.0, -20.0, -3.0, -0.0, 0.0, 3.0, 20.0, 100.0, 1e30, NAN};
        BlockCase block(at_size(params, {static_cast<int64_t>(values.size()), 1, 1}), ScalarType::float32);
        block.weights.depthwise = {std::vector<float>(9, 1.0f), {}, {}};
        block.weights.project = {{1.0f}, {}, {}};
        for (size_t i = 0; i < values.size(); ++i) block.x.at[i].value = static_cast<float>(values[i]);
        check_agreement(block, run_small(block));
        block.x.at[0].value = INFINITY;
        block.x.at[1].value = -INFINITY;  // times 0
        const Bytes y = run_small(block);
        CHECK_EQUAL(load_number(ScalarType::float32, y.data(), 0), INFINITY);
        CHECK(std::isnan(load_number(ScalarType::float32, y.data(), 1)));
    }
}

TEST(no_output_and_no_image_are_served)
{
    InvertedResidualParams params = block_of(4, 4, 1, 8);
    params.padding = {0, 0, 0, 0};
    params.has_residual = false;
    check_agreement(params, {{0, 5, 5}, {2, 2, 5}, {2, 5, 2}, {1, 3, 3}});
}

// Streamed inputs, deep sums and many slices.
TEST(wide_blocks_are_right)
{
    const Sizes sizes = {{2, 4, 5}, {1, 1, 1}};
    for (const InvertedResidualParams& params :
         {block_of(191, 40, 1, 64), block_of(192, 40, 2, 40), block_of(448, 448, 1, 70), block_of(1001, 20, 1, 37),
          block_of(24, 32, 1, 2000), block_of(8, 1500, 2, 33), without_expand(500, 500, 1)})
        for (const cuda::Gpu& gpu : gpus) check_agreement(params, sizes, ScalarType::float32, gpu);
    for (const ScalarType type : half_types)
        for (const InvertedResidualParams& params : {block_of(200, 200, 1, 40), block_of(303, 24, 2, 65)})
            check_agreement(params, sizes, type);
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
        params.activation = Activation::none;
        params.has_residual = false;
        BlockCase block(at_size(params, {1, 1, 1}), ScalarType::float32);
        block.weights = {constant_convolution(params.expanded_channels, params.in_channels, 1.0f),
                         identity(params.expanded_channels),
                         constant_convolution(params.out_channels, params.expanded_channels, 1.0f)};
        block.weights.expand.weight[0] = 0x1p24f;
        for (Bounded& value : block.x.at) value.value = 1.0;
        check_agreement(block, run_small(block));
    }
}

TEST(every_schedule_and_every_cut_gives_the_same_bits)
{
    for (const InvertedResidualParams& params :
         {block_of(24, 24, 1, 80), block_of(200, 24, 2, 40), block_of(33, 180, 1, 40), without_expand(40, 40, 1),
          with_kernel(block_of(24, 24, 1, 40), 5), with_kernel(block_of(12, 20, 2, 40), 7)})
        check_schedules(general_kernel, {at_size(params, {3, 12, 10}), ScalarType::float32},
                        {small_gpu, middle_gpu, large_gpu});
}

// Which kernel serves a block depends on the GPU and the batch.
TEST(every_kernel_gives_the_same_bits)
{
    constexpr ScalarType type = ScalarType::float32;
    for (const InvertedResidualParams& params :
         {block_of(24, 24, 1, 300), block_of(40, 60, 2, 72), block_of(200, 90, 1, 40), block_of(33, 180, 1, 40),
          without_expand(70, 40, 1), with_kernel(block_of(33, 40, 1, 70), 5)}) {
        const BlockCase block(at_size(params, {2, 7, 9}), type);
        const Bytes expected = run_small(block);
        int64_t kernels = 0;
        for (const cuda::GeneralShape& shape : cuda::general_shapes) {
            if (!cuda::has_columns(shape, block.params)) continue;
            Scope scope(params.in_channels, " -> ", params.out_channels, ", ", shape.warps, " warps, ", shape.pixels,
                        " pixels");
            const cuda::GeneralPlan plan = cuda::general_plan_of(shape, block.params, middle_gpu);
            CHECK(plan.fits());
            const auto pack = [&](const auto& expand, const auto& depthwise, const auto& project, void* packed) {
                cuda::pack_general_block(block.params, type, expand, depthwise, project, packed, nullptr);
            };
            const auto launch = [&](const void* x, const void* packed, void* y) {
                cuda::launch_plan(plan, type, x, packed, y, middle_gpu, nullptr);
            };
            CHECK(run_on_device(block, cuda::general_block_bytes(block.params, type), pack, launch) == expected);
            ++kernels;
        }
        CHECK(kernels >= 2);
    }
}

TEST(an_image_alone_gives_the_same_bits)
{
    for (const ScalarType type : dtypes)
        for (const auto& size : Sizes{{9, 2, 3}, {3, 12, 10}})
            check_images_alone(run_small, {at_size(block_of(24, 24, 1, 80), size), type});
}

TEST(batches_larger_than_a_grid_are_served)
{
    check_agreement(block_of(1, 2, 1, 1), {{70'000, 1, 1}});
}

TEST(a_nan_reaches_its_neighbours_and_nothing_else)
{
    for (const InvertedResidualParams& params :
         {block_of(24, 24, 1, 144), block_of(33, 7, 1, 40), block_of(200, 8, 1, 33), with_kernel(block_of(10, 7, 1, 40), 5),
          with_kernel(block_of(10, 7, 1, 40), 7)})
        check_nan(run_small, params, ScalarType::float32);
}

// relu6 makes numbers of infinities, which the channels that only fill a chunk must not turn into NaN.
TEST(an_infinity_is_clamped)
{
    for (InvertedResidualParams params : {block_of(10, 10, 1, 40), block_of(200, 8, 2, 33)}) {
        params.has_residual = false;
        BlockCase block(at_size(params, {1, 6, 6}), ScalarType::float32);
        block.weights.expand.scale.clear();
        block.x(0, 2, 3, 1).value = INFINITY;
        check_agreement(block, run_small(block));
    }
}

}  // namespace
}  // namespace mnv2::test
