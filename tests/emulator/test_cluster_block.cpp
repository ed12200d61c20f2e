// The kernel of csrc/cuda/cluster_block against tile_block's kernels, on the host or, compiled by nvcc, on a GPU. Where the GPU
// has no clusters, the kernel has to refuse.
#include "cuda/common/ptx.cuh"
#include "cuda/launch.h"
#include "cuda/select_block.h"
#include "emulator/block_cases.h"
#include "emulator/tile_stages.h"

namespace mnv2::test {
namespace {

constexpr cuda::Gpu hopper{132, 90, 227 << 10};

// With many multiprocessors an image is several tiles, with few it is one. Clusters are used where they can run.
cuda::Gpu with_multiprocessors(int32_t count)
{
    return {count, hopper.capability, hopper.shared_bytes, has_clusters() ? hopper.code : 80};
}

const cuda::Gpu many = with_multiprocessors(132), few = with_multiprocessors(8);

// Returns tile_block's result, which the clusters have to give, too, under each schedule.
template <class Schedules>
Bytes same_bits_of(const BlockCase& block, const cuda::Gpu& gpu, const Schedules& tried)
{
    const Bytes expected = tile_kernel.run(block, gpu);
    if (!has_clusters()) {
        CHECK(!cluster_block(block.params, block.type, nullptr, nullptr, nullptr, gpu, nullptr));
        return expected;
    }
    for (const uint64_t schedule : tried) {
        Scope scope("schedule ", schedule);
        CHECK(cluster_kernel.run(block, gpu, schedule) == expected);
    }
    return expected;
}

auto same_bits_on(const cuda::Gpu& gpu)
{
    return [&gpu](const BlockCase& block) { return same_bits_of(block, gpu, std::array<uint64_t, 1>{2}); };
}

TEST(late_stages_are_accurate_to_tile_blocks_bits)
{
    for (const auto& [stage, size] : late_stages) {
        const bool is_whole = stage.in_channels == 160 && stage.out_channels == 160;
        check_accuracy(same_bits_on(many), stage, ScalarType::float16, {{1, is_whole ? size : 3, size}});  // else some rows
    }
}

TEST(bfloat16_is_accurate_to_tile_blocks_bits)
{
    for (InvertedResidualParams params : {late_stages[2].params, late_stages[3].params}) {
        params.expanded_channels = 272;  // nine chunks: one block has two of them
        check_accuracy(same_bits_on(many), params, ScalarType::bfloat16, {{1, 5, 14}});
    }
}

TEST(odd_sizes_and_widths_are_accurate_to_tile_blocks_bits)
{
    for (const InvertedResidualParams& params : {block_of(8, 8, 2, 48), block_of(24, 40, 2, 96), block_of(136, 136, 1, 64)})
        for (const cuda::Gpu& gpu : {many, few})
            check_accuracy(same_bits_on(gpu), params, params.stride == 1 ? ScalarType::float16 : ScalarType::bfloat16,
                           {{3, 1, 1}, {2, 5, 7}, {1, 9, 13}});
}

// Several tiles a row, images that are one tile each, and tiles that end beyond the image.
TEST(images_of_several_tiles_and_batches_are_accurate_to_tile_blocks_bits)
{
    for (const InvertedResidualParams& params : {block_of(16, 24, 2, 48), block_of(24, 24, 1, 272)})
        for (const cuda::Gpu& gpu : {many, few})
            check_accuracy(same_bits_on(gpu), params, ScalarType::float16, {{1, 5, 35}, {3, 7, 5}});
}

TEST(options_are_honoured)
{
    for (const InvertedResidualParams& params : {late_stages[0].params, late_stages[3].params, late_stages[4].params})
        check_accuracy(same_bits_on(many), with_other_options(params, 51),  // fewer chunks than blocks, the last one cut
                       ScalarType::float16, {{2, 5, 7}, {1, 6, 11}, {2, 6, 3}});
}

// The one block of width 1.4 that fits only with fewer of its weights fetched ahead.
TEST(the_widest_network_s_last_block_is_accurate_to_tile_blocks_bits)
{
    check_accuracy(same_bits_on(many), block_of(224, 448, 1, 1344), ScalarType::float16, {{1, 2, 7}});
}

TEST(every_schedule_gives_tile_blocks_bits)
{
    for (InvertedResidualParams params : {late_stages[0].params, late_stages[3].params, late_stages[4].params}) {
        params.expanded_channels = 272;
        same_bits_of({at_size(params, {1, 3, 7}), ScalarType::float16}, params.stride == 1 ? many : few, schedules);
    }
}

TEST(an_infinity_meets_no_padding)
{
    check_infinity(same_bits_on(many));
}

InvertedResidualParams at_batch(const Stage& stage, int64_t batch)
{
    return at_size(stage.params, {batch, stage.size, stage.size});
}

TEST(clusters_are_preferred_where_tiles_leave_most_multiprocessors_idle)
{
    constexpr ScalarType type = ScalarType::float16;
    constexpr cuda::Gpu ampere{108, 80, 163 << 10};
    const auto has = [](const Stage& stage, int64_t batch, const cuda::Gpu& gpu) {
        return cuda::select_block(at_batch(stage, batch), type, gpu).kernel == cuda::BlockKernel::cluster_block;
    };
    for (const Stage& stage : late_stages) {
        Scope scope(stage.params.in_channels, " -> ", stage.params.out_channels);
        for (const int64_t batch : {1, 2, 8}) CHECK(has(stage, batch, hopper));
        for (const int64_t batch : {64, 256}) CHECK(!has(stage, batch, hopper));
        CHECK(!has(stage, 1, ampere));
    }
    CHECK_EQUAL(cuda::plan_tiles(at_batch(late_stages[0], 1), type, hopper).blocks, 7);
    CHECK_EQUAL(cuda::plan_tiles(at_batch(late_stages[4], 8), type, hopper).blocks, 16);
    CHECK(!has(late_stages[0], 10, hopper));  // 70 of 132
}

// No images: no launch, but a plan.
TEST(late_blocks_of_every_width_have_clusters)
{
    for (const int64_t percent : {35, 50, 75, 100, 130, 140}) {
        const auto channels = [&](int64_t of_width_1) { return (of_width_1 * percent / 100 + 4) / 8 * 8; };
        for (const auto& [stage, size] : late_stages)
            for (const ScalarType type : half_types) {
                const int64_t in = channels(stage.in_channels), out = channels(stage.out_channels);
                Scope scope(in, " -> ", out, " s", stage.stride);
                const InvertedResidualParams params = at_batch({block_of(in, out, stage.stride, 6 * in), size}, 0);
                CHECK_EQUAL(cluster_block(params, type, nullptr, nullptr, nullptr, many, nullptr), has_clusters());
            }
    }
}

TEST(other_blocks_and_gpus_are_refused)
{
    const auto refused = [](const InvertedResidualParams& params, ScalarType type, const cuda::Gpu& gpu) {
        return !cluster_block(params, type, nullptr, nullptr, nullptr, gpu, nullptr);
    };
    const InvertedResidualParams params = at_batch(late_stages[0], 1);
    CHECK(refused(params, ScalarType::float16, large_gpu));
    CHECK(refused(params, ScalarType::float16, {132, 90, 227 << 10, 80}));  // code for older GPUs
    CHECK(refused(params, ScalarType::float32, hopper));
    CHECK(refused(params, ScalarType::float16, {132, 90, 32 << 10}));
    CHECK(refused(at_batch({block_of(12, 16, 1, 48), 7}, 1), ScalarType::float16, hopper));
    CHECK(refused(at_batch({block_of(64, 1600, 1, 384), 7}, 1), ScalarType::float16, hopper));  // more columns than warps
}

TEST(no_images_are_no_work)
{
    CHECK_EQUAL(cluster_block(at_batch(late_stages[0], 0), ScalarType::float16, nullptr, nullptr, nullptr, many, nullptr),
                has_clusters());
}

#ifndef __CUDACC__

TEST(few_images_are_given_to_clusters)
{
    const auto choose = [](const InvertedResidualParams& params, ScalarType type, const void* x, const void* packed, void* y,
                           const cuda::Gpu& gpu, cuda::Stream stream) {
        cuda::plan_inverted_residual(params, type, type, gpu).launch({x, type, 0, 0, 0, 0}, packed, y, nullptr, stream);
        return true;
    };
    const Stage small{block_of(40, 40, 1, 48), 5};
    const auto uses_clusters = [&](int64_t batch, const cuda::Gpu& gpu) {
        return block_counts(choose, at_batch(small, batch), ScalarType::float16, gpu).cluster_written_bytes > 0;
    };
    CHECK(uses_clusters(1, many));
    CHECK(!uses_clusters(4, few));        // keep its multiprocessors busy by tiles
    CHECK(!uses_clusters(1, large_gpu));  // has no clusters
}

// Bytes that all thread blocks store to their clusters for an image of 160 -> 160.
TEST(blocks_store_no_more_to_one_another_than_recorded)
{
    constexpr uint64_t recorded = 491520;
    const emu::Counts counts = block_counts(cluster_block, at_batch(late_stages[4], 1), ScalarType::float16, many);
    Scope scope(counts.cluster_written_bytes, " bytes");
    CHECK(counts.cluster_written_bytes <= recorded);
}

#endif

}  // namespace
}  // namespace mnv2::test
