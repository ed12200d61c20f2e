// The kernels of csrc/cuda/register_block, on the host or, compiled by nvcc, on a GPU.
#include "cuda/common/ptx.cuh"
#include "emulator/block_cases.h"
#include "emulator/block_kernels.h"

namespace mnv2::test {
namespace {

constexpr cuda::Gpu gpu{2, 80, 160 << 10};  // few multiprocessors: a thread block takes several patches

// The kernel's result under one schedule.
Bytes run_kernel(const InvertedResidualParams& params, ScalarType type, const Weights& weights, const Image& x,
                 uint64_t schedule)
{
    set_schedule(schedule);
    const DeviceConvolution expand(weights.expand), depthwise(weights.depthwise), project(weights.project);
    DeviceBuffer packed(static_cast<size_t>(cuda::register_block_bytes(params, type)));
    cuda::pack_register_block(params, type, expand.view(), depthwise.view(), project.view(), packed.data(), nullptr);
    const DeviceBuffer input(encode_image(x, type));
    const int64_t outputs = params.batch * params.out_height() * params.out_width() * params.out_channels;
    DeviceBuffer output(static_cast<size_t>(outputs * scalar_bytes(type)));
    CHECK(register_block(params, type, input.data(), packed.data(), output.data(), gpu, nullptr));
    return output.bytes();
}

Bytes run_first(const InvertedResidualParams& params, ScalarType type, const Weights& weights, const Image& x)
{
    return run_kernel(params, type, weights, x, schedules[0]);
}

TEST(every_early_block_is_accurate)
{
    for (const auto& [params, size] : early_stages)
        for (const ScalarType type : {ScalarType::float16, ScalarType::bfloat16}) {
            Scope scope(params.in_channels, " -> ", params.out_channels, " ", name_of(type));
            check_accuracy(run_first, params, type, odd_sizes);
        }
}

TEST(every_early_block_is_accurate_at_its_own_size)
{
    for (const auto& [params, size] : early_stages) {
        Scope scope(params.in_channels, " -> ", params.out_channels, " at ", size);
        check_accuracy(run_first, params, ScalarType::float16, {{1, size, size}});
    }
}

TEST(options_are_honoured)
{
    for (const auto& [stage, size] : early_stages) {
        InvertedResidualParams params = stage;
        Scope scope(params.in_channels, " -> ", params.out_channels);
        params.has_residual = false;
        params.activation = Activation::relu;
        params.padding = {0, 0, 1, 1};
        params.expanded_channels = 48;
        check_accuracy(run_first, params, ScalarType::float16, {{2, 5, 7}, {1, 13, 11}, {1, 4, 4}, {2, 6, 3}});
    }
}

TEST(every_schedule_gives_the_same_bits)
{
    for (const auto& [stage, size] : early_stages) {
        InvertedResidualParams params = stage;
        Scope scope(params.in_channels, " -> ", params.out_channels);
        params.batch = 2;
        params.height = 12;
        params.width = 10;
        Random random(7);
        const Weights weights = random_weights(random, params, ScalarType::float16);
        const Image x = random_image(random, params, ScalarType::float16);
        const Bytes first = run_kernel(params, ScalarType::float16, weights, x, schedules[0]);
        for (const uint64_t schedule : schedules) CHECK(run_kernel(params, ScalarType::float16, weights, x, schedule) == first);
    }
}

TEST(a_nan_reaches_its_neighbours_and_nothing_else)
{
    InvertedResidualParams params = early_stages[1].params;
    params.batch = 1;
    params.height = params.width = 9;
    params.has_residual = false;
    Random random(3);
    const Weights weights = random_weights(random, params, ScalarType::float16);
    Image x = random_image(random, params, ScalarType::float16);
    x(0, 4, 5, 3).value = NAN;
    const Bytes y = run_kernel(params, ScalarType::float16, weights, x, schedules[0]);
    for (int64_t i = 0; i < 9 * 9 * params.out_channels; ++i) {
        const int64_t row = i / params.out_channels / 9, column = i / params.out_channels % 9;
        const bool near = std::abs(row - 4) <= 1 && std::abs(column - 5) <= 1;
        CHECK_EQUAL(std::isnan(load_number(ScalarType::float16, y.data(), i)), near);
    }
}

#ifndef __CUDACC__

TEST(shared_memory_has_no_bank_conflicts_and_sectors_are_counted)
{
    for (const auto& [stage, size] : early_stages) {
        Scope scope(stage.in_channels, " -> ", stage.out_channels);
        InvertedResidualParams params = stage;
        params.batch = 1;
        params.height = params.width = 16;
        const int64_t inputs = params.batch * params.height * params.width * params.in_channels;
        const int64_t outputs = params.batch * params.out_height() * params.out_width() * params.out_channels;
        const auto bytes_packed = static_cast<size_t>(cuda::register_block_bytes(params, ScalarType::float16));
        const DeviceBuffer packed(bytes_packed), input(static_cast<size_t>(inputs) * 2),
            output(static_cast<size_t>(outputs) * 2);
        const emu::Counts counts = emu::counts_of(
            [&] { register_block(params, ScalarType::float16, input.data(), packed.data(), output.data(), gpu, nullptr); });
        CHECK_EQUAL(counts.wavefronts(), counts.ideal_wavefronts());
        // A pixel of 24 channels has 48 bytes, stored as 32 and 16: five sectors for two pixels instead of three.
        const auto written = static_cast<int64_t>(counts.global_written_bytes);
        CHECK_EQUAL(params.out_channels == 24 ? written * 3 : written * 5, outputs * 2 * 5);
        CHECK(static_cast<int64_t>(counts.global_read_bytes) >= inputs * 2);
    }
}

#endif

TEST(other_blocks_are_refused)
{
    const auto refused = [](const InvertedResidualParams& params, ScalarType type) {
        return cuda::register_block_bytes(params, type) == 0 &&
               !register_block(params, type, nullptr, nullptr, nullptr, gpu, nullptr);
    };
    InvertedResidualParams params = early_stages[1].params;
    params.batch = params.height = params.width = 1;
    CHECK(refused(params, ScalarType::float32));
    CHECK(refused(block_of(64, 64, 1, 384), ScalarType::float16));
    CHECK(refused(block_of(24, 24, 2, 144), ScalarType::float16));
    InvertedResidualParams linear = params, activated = params, bare = params, cut = params;
    cut.expanded_channels = 51;  // no whole steps
    linear.activation = Activation::none;
    activated.project_activation = Activation::relu6;
    bare.has_expand = false;
    for (const InvertedResidualParams& other : {linear, activated, bare, cut}) CHECK(refused(other, ScalarType::float16));
}

}  // namespace
}  // namespace mnv2::test
