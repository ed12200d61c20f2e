// Times a CUDA kernel of the inverted residual.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "emulator/block_kernels.h"
#include "timing.h"

namespace mnv2::bench {

struct Case {
    int64_t in, expanded, out, size;
    int32_t stride;
    bool has_expand = true;
};

// Blocks of MobileNetV2 1.0 at 14x14 and 7x7, which tile_block and cluster_block serve.
constexpr Case late_blocks[] = {{64, 384, 64, 14, 1},  {64, 384, 96, 14, 1},  {96, 576, 96, 14, 1},
                                {96, 576, 160, 14, 2}, {160, 960, 160, 7, 1}, {160, 960, 320, 7, 1}};

// The entry points of one kernel.
struct Kernel {
    decltype(&cuda::register_block_bytes) bytes;
    decltype(&cuda::pack_register_block) pack;
    decltype(&test::register_block) run;
};

inline InvertedResidualParams params_of(const Case& block, int64_t batch)
{
    InvertedResidualParams params{};
    params.batch = batch;
    params.height = params.width = block.size;
    params.in_channels = block.in;
    params.expanded_channels = block.expanded;
    params.out_channels = block.out;
    params.stride = block.stride;
    params.has_expand = block.has_expand;
    params.has_residual = block.stride == 1 && block.in == block.out;
    return params;
}

// Such as 24-144-24 s1 @56.
inline std::string name_of(const Case& block)
{
    const std::string expanded = block.has_expand ? std::to_string(block.expanded) + "-" : "";
    return std::to_string(block.in) + "-" + expanded + std::to_string(block.out) + " s" + std::to_string(block.stride) + " @" +
           std::to_string(block.size);
}

inline void time_case(const Kernel& kernel, const Case& block, int64_t batch, const cuda::Gpu& gpu, cudaStream_t stream)
{
    const InvertedResidualParams params = params_of(block, batch);
    std::mt19937 random(1);
    const Layer expand(random, block.expanded * block.in), depthwise(random, block.expanded * kernel_taps),
        project(random, block.out * block.expanded);
    const Buffer packed(static_cast<size_t>(kernel.bytes(params, ScalarType::float16)));
    kernel.pack(params, ScalarType::float16, expand.view(), depthwise.view(), project.view(), packed.data(), stream);
    const int64_t inputs = batch * block.size * block.size * block.in;
    const int64_t outputs = batch * params.out_height() * params.out_width() * block.out;
    time_row({name_of(block), batch, inputs, outputs}, stream, [&](const void* x, void* y) {
        require(kernel.run(params, ScalarType::float16, x, packed.data(), y, gpu, stream));
    });
}

// What a timing program's main() returns.
inline int time_cases(const Kernel& kernel, std::span<const Case> cases, std::span<const int64_t> batches = usual_batches,
                      int32_t least_capability = 0)
{
    return time_batches(
        [&](int64_t batch, const cuda::Gpu& gpu, cudaStream_t stream) {
            for (const Case& block : cases) time_case(kernel, block, batch, gpu, stream);
        },
        batches, least_capability);
}

}  // namespace mnv2::bench
