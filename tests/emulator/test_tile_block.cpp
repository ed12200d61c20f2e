// The kernels of csrc/cuda/tile_block, on the host or, compiled by nvcc, on a GPU.
#include "cuda/common/ptx.cuh"
#include "cuda/launch.h"
#include "emulator/block_cases.h"
#include "emulator/tile_stages.h"

namespace mnv2::test {
namespace {

// Blocks of widths 0.35 to 1.4, and an odd number of column tiles.
const InvertedResidualParams other_widths[] = {
    block_of(8, 8, 2, 48),      block_of(8, 8, 1, 48),      block_of(16, 24, 1, 96),    block_of(24, 40, 2, 144),
    block_of(56, 112, 1, 336),  block_of(56, 56, 1, 336),   block_of(56, 56, 2, 336),   block_of(88, 136, 1, 528),
    block_of(136, 136, 1, 816), block_of(136, 224, 2, 816), block_of(224, 448, 1, 1344)};

// The kernel's result under one schedule.
Bytes run_kernel(const InvertedResidualParams& params, ScalarType type, const Weights& weights, const Image& x,
                 const cuda::Gpu& gpu, uint64_t schedule)
{
    set_schedule(schedule);
    const DeviceConvolution expand(weights.expand), depthwise(weights.depthwise), project(weights.project);
    DeviceBuffer packed(static_cast<size_t>(cuda::tile_block_bytes(params, type)));
    cuda::pack_tile_block(params, type, expand.view(), depthwise.view(), project.view(), packed.data(), nullptr);
    const DeviceBuffer input(encode_image(x, type));
    DeviceBuffer output(static_cast<size_t>(output_bytes(params, type)));
    CHECK(tile_block(params, type, input.data(), packed.data(), output.data(), gpu, nullptr));
    return output.bytes();
}

auto first_schedule_on(const cuda::Gpu& gpu)
{
    return [&gpu](const InvertedResidualParams& params, ScalarType type, const Weights& weights, const Image& x) {
        return run_kernel(params, type, weights, x, gpu, schedules[0]);
    };
}

TEST(every_late_stage_is_accurate_at_its_own_size)
{
    for (const auto& [params, size] : late_stages)
        for (const ScalarType type : {ScalarType::float16, ScalarType::bfloat16}) {
            Scope scope(params.in_channels, " -> ", params.out_channels, " ", name_of(type));
            check_accuracy(first_schedule_on(small_gpu), params, type, {{size == 7 ? 2 : 1, size, size}});
        }
}

TEST(every_width_is_accurate_at_odd_sizes)
{
    for (InvertedResidualParams params : other_widths) {
        params.expanded_channels = std::min<int64_t>(params.expanded_channels, 96);
        for (const cuda::Gpu& gpu : {small_gpu, large_gpu})
            for (const ScalarType type : {ScalarType::float16, ScalarType::bfloat16}) {
                Scope scope(params.in_channels, " -> ", params.out_channels, " s", params.stride, " ", name_of(type), ", ",
                            gpu.sm_count, " multiprocessors");
                check_accuracy(first_schedule_on(gpu), params, type, odd_sizes);
            }
    }
}

// Blocks that want more, on GPUs with the least shared memory that there is: the widest of MobileNetV2 1.4, and two of 1.0.
TEST(little_shared_memory_changes_no_bit)
{
    constexpr cuda::Gpu little{1, 86, 99 << 10}, too_little{1, 75, 64 << 10};
    const Stage stages[] = {{block_of(224, 448, 1, 1344), 7},
                            {block_of(224, 448, 1, 1344), 18},
                            {block_of(96, 160, 2, 576), 34},
                            {block_of(160, 320, 1, 960), 18}};
    for (auto [params, size] : stages)
        for (const ScalarType type : {ScalarType::float16, ScalarType::bfloat16}) {
            Scope scope(params.in_channels, " -> ", params.out_channels, " @", size, " ", name_of(type));
            params.expanded_channels = 96;
            params.batch = 1;
            params.height = params.width = size;
            Random random(13);
            const Weights weights = random_weights(random, params, type);
            const Image x = random_image(random, params, type);
            const Bytes expected = run_kernel(params, type, weights, x, small_gpu, schedules[0]);
            for (const uint64_t schedule : schedules) CHECK(run_kernel(params, type, weights, x, little, schedule) == expected);
            if (params.in_channels == 224) CHECK(!tile_block(params, type, nullptr, nullptr, nullptr, too_little, nullptr));
        }
}

TEST(images_of_several_tiles_are_accurate)
{
    for (const InvertedResidualParams& params : {block_of(16, 24, 2, 48), block_of(24, 24, 1, 48), block_of(8, 104, 1, 48)})
        for (const cuda::Gpu& gpu : {small_gpu, large_gpu}) {
            Scope scope(params.in_channels, " -> ", params.out_channels, ", ", gpu.sm_count, " multiprocessors");
            check_accuracy(first_schedule_on(gpu), params, ScalarType::float16, {{1, 35, 37}, {2, 18, 70}});
        }
}

TEST(options_are_honoured)
{
    for (InvertedResidualParams params :
         {late_stages[0].params, late_stages[3].params, late_stages[4].params, block_of(24, 24, 2, 96)}) {
        Scope scope(params.in_channels, " -> ", params.out_channels);
        params.has_residual = false;
        params.activation = Activation::relu;
        params.padding = {0, 0, 1, 1};
        params.expanded_channels = 51;  // no multiple of a chunk
        for (const cuda::Gpu& gpu : {small_gpu, large_gpu})
            check_accuracy(first_schedule_on(gpu), params, ScalarType::float16, {{2, 5, 7}, {1, 13, 11}, {1, 4, 4}, {2, 6, 3}});
    }
}

TEST(every_schedule_and_tile_gives_the_same_bits)
{
    for (const auto& [stage, size] : late_stages) {
        InvertedResidualParams params = stage;
        Scope scope(params.in_channels, " -> ", params.out_channels);
        params.batch = 2;
        params.height = params.width = size;
        params.expanded_channels = 80;
        Random random(7);
        const Weights weights = random_weights(random, params, ScalarType::float16);
        const Image x = random_image(random, params, ScalarType::float16);
        const Bytes first = run_kernel(params, ScalarType::float16, weights, x, small_gpu, schedules[0]);
        for (const cuda::Gpu& gpu : {small_gpu, large_gpu})
            for (const uint64_t schedule : schedules)
                CHECK(run_kernel(params, ScalarType::float16, weights, x, gpu, schedule) == first);
    }
}

TEST(an_image_has_the_same_bits_in_every_batch)
{
    for (const auto& [stage, size] : late_stages) {
        InvertedResidualParams params = stage;
        Scope scope(params.in_channels, " -> ", params.out_channels);
        params.batch = 3;  // one more than a tile's images
        params.height = params.width = size;
        params.expanded_channels = 32;
        Random random(11);
        const Weights weights = random_weights(random, params, ScalarType::float16);
        const Image x = random_image(random, params, ScalarType::float16);
        const Bytes all = run_kernel(params, ScalarType::float16, weights, x, small_gpu, schedules[0]);
        const size_t bytes = all.size() / 3;
        params.batch = 1;
        for (int64_t i = 0; i < 3; ++i) {
            Image one(1, size, size, params.in_channels);
            std::copy_n(x.at.begin() + i * static_cast<int64_t>(one.at.size()), one.at.size(), one.at.begin());
            const Bytes got = run_kernel(params, ScalarType::float16, weights, one, small_gpu, schedules[0]);
            CHECK(std::equal(got.begin(), got.end(), all.begin() + static_cast<int64_t>(static_cast<size_t>(i) * bytes)));
        }
    }
}

TEST(a_nan_reaches_its_neighbours_and_nothing_else)
{
    for (const InvertedResidualParams& block : {late_stages[0].params, late_stages[4].params}) {
        InvertedResidualParams params = block;
        params.batch = 1;
        params.height = params.width = 9;
        params.expanded_channels = 40;
        params.has_residual = false;
        Random random(3);
        const Weights weights = random_weights(random, params, ScalarType::float16);
        Image x = random_image(random, params, ScalarType::float16);
        x(0, 4, 5, 3).value = NAN;
        const Bytes y = run_kernel(params, ScalarType::float16, weights, x, small_gpu, schedules[0]);
        for (int64_t i = 0; i < 9 * 9 * params.out_channels; ++i) {
            const int64_t row = i / params.out_channels / 9, column = i / params.out_channels % 9;
            const bool near = std::abs(row - 4) <= 1 && std::abs(column - 5) <= 1;
            CHECK_EQUAL(std::isnan(load_number(ScalarType::float16, y.data(), i)), near);
        }
    }
}

// Weights that only fill a chunk are 0, and 0 times infinity is not.
TEST(an_infinity_meets_no_padding)
{
    InvertedResidualParams params = block_of(8, 8, 1, 33);
    params.batch = 1;
    params.height = params.width = 5;
    params.has_residual = false;
    Random random(5);
    const Weights weights = random_weights(random, params, ScalarType::float16);
    Image x = random_image(random, params, ScalarType::float16);
    x(0, 2, 2, 1).value = INFINITY;
    const Bytes y = run_kernel(params, ScalarType::float16, weights, x, small_gpu, schedules[0]);
    for (int64_t i = 0; i < 5 * 5 * params.out_channels; ++i)
        CHECK(std::isfinite(load_number(ScalarType::float16, y.data(), i)));
}

TEST(other_blocks_are_refused)
{
    const auto refused = [](const InvertedResidualParams& params, ScalarType type) {
        return cuda::tile_block_bytes(params, type) == 0 &&
               !tile_block(params, type, nullptr, nullptr, nullptr, small_gpu, nullptr);
    };
    InvertedResidualParams params = late_stages[0].params;
    params.batch = params.height = params.width = 1;
    CHECK(refused(params, ScalarType::float32));
    CHECK(refused(block_of(12, 16, 1, 48), ScalarType::float16));
    CHECK(refused(block_of(16, 12, 1, 48), ScalarType::float16));
    CHECK(refused(block_of(1024, 1024, 1, 6144), ScalarType::float16));
    CHECK(refused(block_of(16, max_channels, 1, 96), ScalarType::float16));
    InvertedResidualParams linear = params, activated = params, bare = params;
    linear.activation = Activation::none;
    activated.project_activation = Activation::relu6;
    bare.has_expand = false;
    for (const InvertedResidualParams& other : {linear, activated, bare}) CHECK(refused(other, ScalarType::float16));
}

TEST(a_gpu_with_too_little_shared_memory_is_told_so)
{
    InvertedResidualParams params = late_stages[5].params;
    params.batch = 0;
    params.height = params.width = 7;
    std::string said;
    try {
        const cuda::Gpu tiny{132, 80, 48 << 10};
        cuda::inverted_residual(params, ScalarType::float16, ScalarType::float16, nullptr, nullptr, nullptr, tiny, nullptr);
    } catch (const std::runtime_error& error) {
        said = error.what();
    }
    CHECK_EQUAL(said, "this block needs more shared memory than the GPU has; MNV2_GPU_BACKEND=triton needs less");
}

TEST(no_images_are_no_work)
{
    InvertedResidualParams params = late_stages[0].params;
    params.batch = 0;
    params.height = params.width = 14;
    CHECK(tile_block(params, ScalarType::float16, nullptr, nullptr, nullptr, small_gpu, nullptr));
}

#ifndef __CUDACC__

TEST(stages_need_no_more_wavefronts_than_recorded)
{
    constexpr uint64_t recorded[] = {16184, 17720, 28868, 37930, 42310, 58958};
    for (size_t i = 0; i < std::size(recorded); ++i) {
        const uint64_t wavefronts = tile_counts(whole_tile(late_stages[i]), ScalarType::float16, small_gpu).wavefronts();
        Scope scope(late_stages[i].params.in_channels, " -> ", late_stages[i].params.out_channels, ": ", wavefronts);
        CHECK(wavefronts <= recorded[i]);
    }
}

#endif

}  // namespace
}  // namespace mnv2::test
