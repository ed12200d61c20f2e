// The kernels of csrc/cuda/gated_block, on the host or, compiled by nvcc, on a GPU, against the block by its definition.
#include <initializer_list>

#include "cuda/common/ptx.cuh"
#include "cuda/gated_block/plan.h"
#include "emulator/block_cases.h"
#include "shapes.h"

namespace mnv2::test {
namespace {

constexpr cuda::Gpu small_gpu{2, 80, 163 << 10};    // few multiprocessors: a thread block takes several tiles and chunks
constexpr cuda::Gpu large_gpu{132, 90, 227 << 10};  // many multiprocessors: it takes one

InvertedResidualParams gated(InvertedResidualParams params, int64_t squeezed_channels)
{
    params.squeezed_channels = squeezed_channels;
    return params;
}

Bytes run_in(const DeviceBuffer& scratch, const BlockCase& block, const cuda::GatedPlan& plan, const cuda::Gpu& gpu)
{
    const DeviceConvolution squeeze(block.weights.squeeze), excite(block.weights.excite);
    return run_on_device(
        block, cuda::gated_block_bytes(block.params),
        [&](const auto& expand, const auto& depthwise, const auto& project, void* packed) {
            const BlockConvolutions weights{expand, depthwise, project, squeeze.view(), excite.view()};
            cuda::pack_gated_block(block.params, weights, packed, nullptr);
        },
        [&](const void* x, const void* packed, void* y) {
            cuda::launch_plan(plan, block.type, x, packed, y, scratch.data(), gpu, nullptr);
        });
}

struct GatedKernel {
    Bytes run(const BlockCase& block, const cuda::Gpu& gpu = small_gpu, uint64_t schedule = schedules[0]) const
    {
        set_schedule(schedule);
        const cuda::GatedPlan plan = cuda::plan_gated(block.params, gpu);
        const DeviceBuffer scratch(static_cast<size_t>(plan.scratch(block.type).end));
        return run_in(scratch, block, plan, gpu);
    }
};

constexpr GatedKernel gated_kernel;

Bytes run_small(const BlockCase& block)
{
    return gated_kernel.run(block);
}

void check_agreement(const InvertedResidualParams& params, const Sizes& sizes, const cuda::Gpu& gpu = small_gpu)
{
    Scope scope(params.in_channels, " -> ", params.expanded_channels, " -> ", params.out_channels, " kernel ", params.kernel,
                " stride ", params.stride);
    for (const auto& size : sizes) {
        Scope image(size[0], " of ", size[1], "x", size[2]);
        const BlockCase block(at_size(params, size), ScalarType::float32);
        const Bytes got = gated_kernel.run(block, gpu);
        const Image expected = inverted_residual(block.params, block.x, block.weights, ScalarType::float32);
        for (size_t i = 0; i < expected.at.size(); ++i)
            CHECK(agrees(load_number(block.type, got.data(), static_cast<int64_t>(i)), expected.at[i], block.type));
    }
}

// Multiples of chunks, of four and of nothing; deep expands, whose input is streamed, and none.
const InvertedResidualParams channel_cases[] = {
    gated(block_of(24, 24, 1, 96), 8),   gated(block_of(16, 24, 2, 40), 4), gated(block_of(3, 5, 2, 7), 1),
    gated(block_of(33, 33, 1, 65), 17),  gated(block_of(200, 9, 1, 33), 3), gated(without_expand(32, 16, 1), 8),
    gated(without_expand(37, 37, 1), 9),
};

TEST(every_window_is_right)
{
    for (const InvertedResidualParams& params : channel_cases)
        for (const int32_t kernel : kernel_sizes)
            for (const cuda::Gpu& gpu : {small_gpu, large_gpu}) check_agreement(with_kernel(params, kernel), odd_sizes, gpu);
}

TEST(half_precision_is_no_less_accurate_than_separate_layers)
{
    for (const ScalarType type : half_types)
        for (const InvertedResidualParams& params : {channel_cases[0], channel_cases[3], channel_cases[5]})
            check_accuracy(run_small, params, type, odd_sizes);
}

TEST(options_are_honoured)
{
    for (InvertedResidualParams params : {channel_cases[0], channel_cases[6]})
        for (const Activation activation : activations)
            for (const GateActivation excite : {GateActivation::sigmoid, GateActivation::hardsigmoid}) {
                Scope scope(activation_name(activation), ", ", gate_activation_name(excite));
                params.activation = params.squeeze_activation = activation;
                params.depthwise_activation = Activation::hardswish;
                params.excite_activation = excite;
                check_agreement(params, {{2, 5, 7}});
            }
}

// More tiles than one, more channels than the squeeze's means in shared memory, and deep sums behind it.
TEST(large_images_and_many_channels_are_right)
{
    check_agreement(gated(block_of(4, 4, 1, 8), 3), {{1, 45, 70}});
    check_agreement(gated(without_expand(1100, 3, 1), 200), {{2, 2, 3}});
    check_agreement(gated(block_of(2, 600, 1, 40), 3), {{1, 3, 3}});
}

TEST(every_schedule_and_every_gpu_gives_the_same_bits)
{
    for (const InvertedResidualParams& params : {channel_cases[0], with_kernel(channel_cases[1], 5), channel_cases[6]})
        check_schedules(gated_kernel, {at_size(params, {2, 18, 20}), ScalarType::float32}, {small_gpu, large_gpu});
}

TEST(an_image_alone_gives_the_same_bits)
{
    for (const ScalarType type : dtypes)
        for (const auto& size : Sizes{{9, 2, 3}, {3, 12, 19}})
            check_images_alone(run_small, {at_size(channel_cases[0], size), type});
}

TEST(a_nan_reaches_its_image_and_nothing_else)
{
    InvertedResidualParams params = channel_cases[0];
    params.has_residual = false;
    BlockCase block(at_size(params, {3, 9, 9}), ScalarType::float32);
    block.x(1, 4, 5, 3).value = NAN;
    const Bytes y = run_small(block);
    for (int64_t i = 0; i < 3 * 9 * 9 * params.out_channels; ++i)
        CHECK_EQUAL(std::isnan(load_number(block.type, y.data(), i)), i / (9 * 9 * params.out_channels) == 1);
}

TEST(a_gpu_with_too_little_shared_memory_is_told_so)
{
    std::string said;
    try {
        cuda::plan_gated(at_size(with_kernel(channel_cases[0], 7), {1, 7, 7}), {132, 80, 4 << 10});
    } catch (const std::runtime_error& error) {
        said = error.what();
    }
    CHECK_EQUAL(said, cuda::no_general_tile);
}

#ifndef __CUDACC__

using emu::Instruction, emu::Issue;

struct NamedFault {
    const char* name;
    emu::Fault plant;
};

// The first pass of a small image has fewer threads than the gate's layers, whose kernels are told apart by that.
bool is_in_gate()
{
    return blockDim.x == cuda::gate_threads;
}

// A chunk has four barriers.
template <int number>
bool lacks_barrier(const Issue& issue)
{
    return !(issue.is(Instruction::block_barrier) && !is_in_gate() && issue.before % 4 == number);
}

constexpr NamedFault first_pass_faults[] = {
    {"no barrier before a chunk's input is read", lacks_barrier<0>},
    {"no barrier between expansion and convolution", lacks_barrier<1>},
    {"no barrier before the depthwise results are stored", lacks_barrier<2>},
    {"no barrier before the warps' sums are added up", lacks_barrier<3>},
    {"no wait for the weights", [](const Issue& issue) { return !issue.is(Instruction::copy_wait); }},
    {"the image's border is not zeroed",
     [](const Issue& issue) { return !(issue.is(Instruction::store_shared) && issue.is_in("zero_halo")); }}};

constexpr NamedFault gate_faults[] = {
    {"no barrier before the means are read",
     [](const Issue& issue) { return !(issue.is(Instruction::block_barrier) && is_in_gate() && issue.before % 2 == 1); }},
    {"no means of the last channel", [](const Issue& issue) {
         return !(issue.is(Instruction::store_shared) && issue.is_in("load_means") && threadIdx.x == 95);
     }}};

// What a launch with a fault leaves in its scratch memory from byte `begin` to `end`.
Bytes scratch_with(emu::Fault fault, uint64_t schedule, const BlockCase& block, int64_t begin, int64_t end)
{
    set_schedule(schedule);
    const cuda::GatedPlan plan = cuda::plan_gated(block.params, small_gpu);
    const DeviceBuffer scratch(static_cast<size_t>(plan.scratch(block.type).end));
    emu::planted_fault = fault;
    try {
        run_in(scratch, block, plan, small_gpu);
    } catch (const emu::Error&) {
    }
    emu::planted_fault = nullptr;
    const Bytes bytes = scratch.bytes();
    return {bytes.begin() + begin, bytes.begin() + end};
}

template <class Faults>
void check_faults(const Faults& faults, const BlockCase& block, int64_t begin, int64_t end)
{
    const Bytes right = scratch_with(nullptr, schedules[0], block, begin, end);
    for (const NamedFault& fault : faults) {
        Scope scope(fault.name);
        bool shows = false;
        for (const uint64_t schedule : schedules)
            shows = shows || scratch_with(fault.plant, schedule, block, begin, end) != right;
        CHECK(shows);
    }
}

TEST(a_planted_fault_shows_in_what_its_pass_leaves)
{
    const BlockCase block(at_size(with_kernel(channel_cases[0], 5), {1, 8, 7}), ScalarType::float32);
    const cuda::GatedScratch scratch = cuda::plan_gated(block.params, small_gpu).scratch(block.type);
    check_faults(first_pass_faults, block, 0, scratch.squeezed);
    check_faults(gate_faults, block, scratch.squeezed, scratch.end);
}

#endif

}  // namespace
}  // namespace mnv2::test
