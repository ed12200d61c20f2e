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

TEST(every_late_stage_is_accurate_at_its_own_size)
{
    for (const auto& [params, size] : late_stages)
        for (const ScalarType type : half_types)
            check_accuracy(tile_kernel.on(small_gpu), params, type, {{size == 7 ? 2 : 1, size, size}});
}

TEST(every_width_is_accurate_at_odd_sizes)
{
    for (InvertedResidualParams params : other_widths) {
        params.expanded_channels = std::min<int64_t>(params.expanded_channels, 96);
        for (const cuda::Gpu& gpu : {small_gpu, large_gpu})
            for (const ScalarType type : half_types) check_accuracy(tile_kernel.on(gpu), params, type, odd_sizes);
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
        for (const ScalarType type : half_types) {
            params.expanded_channels = 96;
            check_schedules(tile_kernel, BlockCase(at_size(params, {1, size, size}), type), {small_gpu, little});
            if (params.in_channels == 224) CHECK(!tile_block(params, type, nullptr, nullptr, nullptr, too_little, nullptr));
        }
}

TEST(images_of_several_tiles_are_accurate)
{
    for (const InvertedResidualParams& params : {block_of(16, 24, 2, 48), block_of(24, 24, 1, 48), block_of(8, 104, 1, 48)})
        for (const cuda::Gpu& gpu : {small_gpu, large_gpu})
            check_accuracy(tile_kernel.on(gpu), params, ScalarType::float16, {{1, 35, 37}, {2, 18, 70}});
}

TEST(options_are_honoured)
{
    for (const InvertedResidualParams& params :
         {late_stages[0].params, late_stages[3].params, late_stages[4].params, block_of(24, 24, 2, 96)})
        for (const cuda::Gpu& gpu : {small_gpu, large_gpu})  // 51 is no multiple of a chunk
            check_accuracy(tile_kernel.on(gpu), with_other_options(params, 51), ScalarType::float16,
                           {{2, 5, 7}, {1, 13, 11}, {1, 4, 4}, {2, 6, 3}});
}

TEST(every_schedule_and_tile_gives_the_same_bits)
{
    for (auto [params, size] : late_stages) {
        params.expanded_channels = 80;
        check_schedules(tile_kernel, BlockCase(at_size(params, {2, size, size}), ScalarType::float16), {small_gpu, large_gpu});
    }
}

TEST(an_image_has_the_same_bits_in_every_batch)
{
    for (auto [params, size] : late_stages) {
        params.expanded_channels = 32;
        const int64_t batch = 3;  // one more than a tile's images
        check_images_alone(tile_kernel.on(small_gpu), BlockCase(at_size(params, {batch, size, size}), ScalarType::float16));
    }
}

TEST(a_nan_reaches_its_neighbours_and_nothing_else)
{
    for (InvertedResidualParams params : {late_stages[0].params, late_stages[4].params}) {
        params.expanded_channels = 40;
        check_nan(tile_kernel.on(small_gpu), params, ScalarType::float16);
    }
}

TEST(an_infinity_meets_no_padding)
{
    check_infinity(tile_kernel.on(small_gpu));
}

TEST(other_blocks_are_refused)
{
    check_refusals(tile_kernel, late_stages[0].params, small_gpu);
    for (const InvertedResidualParams& other :
         {block_of(12, 16, 1, 48), block_of(16, 12, 1, 48), block_of(1024, 1024, 1, 6144), block_of(16, max_channels, 1, 96)})
        CHECK(tile_kernel.refuses(other, ScalarType::float16, small_gpu));
}

TEST(a_gpu_with_too_little_shared_memory_is_told_so)
{
    std::string said;
    try {
        cuda::plan_inverted_residual(at_size(late_stages[5].params, {0, 7, 7}), ScalarType::float16, ScalarType::float16,
                                     {132, 80, 48 << 10});
    } catch (const std::runtime_error& error) {
        said = error.what();
    }
    CHECK_EQUAL(said, "this block needs more shared memory than the GPU has; MNV2_GPU_BACKEND=triton needs less");
}

TEST(no_images_are_no_work)
{
    CHECK(tile_block(at_size(late_stages[0].params, {0, 14, 14}), ScalarType::float16, nullptr, nullptr, nullptr, small_gpu,
                     nullptr));
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
