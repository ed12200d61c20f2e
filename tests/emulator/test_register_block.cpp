// The kernels of csrc/cuda/register_block, on the host or, compiled by nvcc, on a GPU.
#include "cuda/common/ptx.cuh"
#include "emulator/block_cases.h"
#include "emulator/block_kernels.h"

namespace mnv2::test {
namespace {

constexpr cuda::Gpu gpu{2, 80, 160 << 10};  // few multiprocessors: a thread block takes several patches

TEST(every_early_block_is_accurate)
{
    for (const auto& [params, size] : early_stages)
        for (const ScalarType type : half_types) check_accuracy(register_kernel.on(gpu), params, type, odd_sizes);
}

TEST(every_early_block_is_accurate_at_its_own_size)
{
    for (const auto& [params, size] : early_stages)
        check_accuracy(register_kernel.on(gpu), params, ScalarType::float16, {{1, size, size}});
}

TEST(options_are_honoured)
{
    for (const auto& [stage, size] : early_stages)
        check_accuracy(register_kernel.on(gpu), with_other_options(stage, 48), ScalarType::float16,
                       {{2, 5, 7}, {1, 13, 11}, {1, 4, 4}, {2, 6, 3}});
}

TEST(every_schedule_gives_the_same_bits)
{
    for (const auto& [stage, size] : early_stages)
        check_schedules(register_kernel, BlockCase(at_size(stage, {2, 12, 10}), ScalarType::float16), {gpu});
}

TEST(a_nan_reaches_its_neighbours_and_nothing_else)
{
    check_nan(register_kernel.on(gpu), early_stages[1].params, ScalarType::float16);
}

#ifndef __CUDACC__

TEST(shared_memory_has_no_bank_conflicts_and_sectors_are_counted)
{
    for (const auto& [stage, size] : early_stages) {
        Scope scope(stage.in_channels, " -> ", stage.out_channels);
        const InvertedResidualParams params = at_size(stage, {1, 16, 16});
        constexpr ScalarType type = ScalarType::float16;
        const int64_t inputs = input_bytes(params, type), outputs = output_bytes(params, type);
        const DeviceBuffer packed(static_cast<size_t>(cuda::register_block_bytes(params, type))),
            input(static_cast<size_t>(inputs)), output(static_cast<size_t>(outputs));
        const emu::Counts counts =
            emu::counts_of([&] { register_block(params, type, input.data(), packed.data(), output.data(), gpu, nullptr); });
        CHECK_EQUAL(counts.wavefronts(), counts.ideal_wavefronts());
        // A pixel of 24 channels has 48 bytes, stored as 32 and 16: five sectors for two pixels instead of three.
        const auto written = static_cast<int64_t>(counts.global_written_bytes);
        CHECK_EQUAL(params.out_channels == 24 ? written * 3 : written * 5, outputs * 5);
        CHECK(static_cast<int64_t>(counts.global_read_bytes) >= inputs);
    }
}

#endif

TEST(other_blocks_are_refused)
{
    check_refusals(register_kernel, early_stages[1].params, gpu);
    InvertedResidualParams cut = at_size(early_stages[1].params, {1, 1, 1});
    cut.expanded_channels = 51;  // no whole steps
    for (const InvertedResidualParams& other : {block_of(64, 64, 1, 384), block_of(24, 24, 2, 144), cut})
        CHECK(register_kernel.refuses(other, ScalarType::float16, gpu));
}

}  // namespace
}  // namespace mnv2::test
