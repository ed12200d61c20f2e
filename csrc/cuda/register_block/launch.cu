#include "cuda/register_block/kernel.cuh"

#include <algorithm>

#include "cuda/common/sizes.h"
#include "cuda/launch.h"
#include "cuda/register_block/pack.cuh"
#include "cuda/register_block/plan.h"

namespace mnv2::cuda {
namespace {

template <class Block>
void run(const InvertedResidualParams& params, const void* x, const void* packed, void* y, const Gpu& gpu, Stream stream)
{
    RegisterBlockArguments arguments{};
    arguments.input = x;
    arguments.output = y;
    arguments.packed = static_cast<const uint8_t*>(packed);
    arguments.steps = static_cast<int>(step_count(params));
    arguments.height = static_cast<int>(params.height);
    arguments.width = static_cast<int>(params.width);
    arguments.out_height = static_cast<int>(params.out_height());
    arguments.out_width = static_cast<int>(params.out_width());
    arguments.padding_top = params.padding.top;
    arguments.padding_left = params.padding.left;
    arguments.patch_rows = static_cast<int>(divide_up(params.out_height(), Block::patch_height));
    arguments.patch_columns = static_cast<int>(divide_up(params.out_width(), Block::patch_width));
    arguments.patches = params.batch * arguments.patch_rows * static_cast<int64_t>(arguments.patch_columns);
    arguments.high = clamp_of(params.activation).high;
    arguments.residual = params.has_residual;

    const int64_t full = static_cast<int64_t>(gpu.sm_count) * Block::blocks_per_sm;
    const int64_t needed = divide_up(arguments.patches, Block::warps * patches_per_warp);
    const auto blocks = static_cast<unsigned>(std::min(full, needed));
    if (blocks == 0) return;
    launch_kernel(register_block_kernel<Block>, dim3(blocks), dim3(32 * Block::warps), arguments.steps * Block::step_bytes,
                  stream, arguments);
}

}  // namespace

int64_t register_block_bytes(const InvertedResidualParams& params, ScalarType type)
{
    int64_t bytes = 0;
    visit_block(params, type, [&](auto block) { bytes = packed_bytes<decltype(block)>(params); });
    return bytes;
}

bool pack_register_block(const InvertedResidualParams& params, ScalarType type, const ConvolutionWeights& expand,
                         const ConvolutionWeights& depthwise, const ConvolutionWeights& project, void* packed, Stream stream)
{
    return visit_block(params, type, [&](auto block) {
        using Block = decltype(block);
        const int64_t words = packed_bytes<Block>(params) / static_cast<int64_t>(sizeof(uint32_t));
        pack_words(RegisterBlockWords<Block>{params.expanded_channels, expand, depthwise, project}, words, packed, stream);
    });
}

bool register_block(const InvertedResidualParams& params, ScalarType type, const void* x, const void* packed, void* y,
                    const Gpu& gpu, Stream stream)
{
    return visit_block(params, type, [&](auto block) { run<decltype(block)>(params, x, packed, y, gpu, stream); });
}

}  // namespace mnv2::cuda
