// The late stages of MobileNetV2 1.0, and what they cost tile_block.
#pragma once

#include "emulator/block_kernels.h"
#include "emulator/blocks.h"
#include "emulator/device.h"

namespace mnv2::test {

// With one multiprocessor a stage's own form keeps the GPU busy; with 132 small tiles are chosen.
constexpr cuda::Gpu small_gpu{1, 80, 160 << 10}, large_gpu{132, 80, 160 << 10};

const Stage late_stages[] = {{block_of(64, 64, 1, 384), 14},  {block_of(64, 96, 1, 384), 14},  {block_of(96, 96, 1, 576), 14},
                             {block_of(96, 160, 2, 576), 14}, {block_of(160, 160, 1, 960), 7}, {block_of(160, 320, 1, 960), 7}};

// A stage at its own size with as many images as a tile takes.
inline InvertedResidualParams whole_tile(const Stage& stage)
{
    const int64_t images = stage.size / stage.params.stride == 7 ? 2 : 1;
    return at_size(stage.params, {images, stage.size, stage.size});
}

#ifndef __CUDACC__

// What a launch from tile_block's packed weights asks for, whatever the numbers.
inline emu::Counts block_counts(decltype(&tile_block) run, const InvertedResidualParams& params, ScalarType type,
                                const cuda::Gpu& gpu)
{
    const auto zeros = [](int64_t bytes) { return DeviceBuffer(std::vector<uint8_t>(static_cast<size_t>(bytes))); };
    const DeviceBuffer packed = zeros(cuda::tile_block_bytes(params, type)), input = zeros(input_bytes(params, type)),
                       output = zeros(output_bytes(params, type));
    return emu::counts_of([&] { run(params, type, input.data(), packed.data(), output.data(), gpu, nullptr); });
}

inline emu::Counts tile_counts(const InvertedResidualParams& params, ScalarType type, const cuda::Gpu& gpu)
{
    return block_counts(tile_block, params, type, gpu);
}

#endif

}  // namespace mnv2::test
