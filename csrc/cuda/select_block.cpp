#include "cuda/select_block.h"

#include <stdexcept>

#include "cuda/launch.h"
#include "cuda/reasons.h"

namespace mnv2::cuda {
namespace {

constexpr BlockReason every_reason[] = {
    {BlockKernel::register_block, reasons::few_channels},   {BlockKernel::tile_block, reasons::tiles_fit},
    {BlockKernel::cluster_block, reasons::few_images},      {BlockKernel::gated_block, reasons::gate},
    {BlockKernel::general_block, reasons::float32_weights}, {BlockKernel::general_block, reasons::no_expand},
    {BlockKernel::general_block, reasons::window},          {BlockKernel::general_block, reasons::activations},
    {BlockKernel::general_block, reasons::channels},        {BlockKernel::general_block, reasons::too_wide}};

bool has_output(const InvertedResidualParams& params)
{
    return params.batch > 0 && params.out_height() > 0 && params.out_width() > 0;
}

BlockChoice select_tiles(const BlockFormat& format, const InvertedResidualParams& params, ScalarType type, const Gpu& gpu)
{
    const TilePlan tiles = plan_tiles(params, type, gpu);
    if (has_clusters(gpu) && 2 * (tiles.warps > 0 ? tiles.blocks : 0) < gpu.sm_count) {
        const ClusterPlan clusters = plan_clusters(params, gpu);
        if (clusters.fits) return {format, BlockKernel::cluster_block, reasons::few_images, clusters};
    }
    if (tiles.warps == 0)
        throw std::runtime_error("this block needs more shared memory than the GPU has; MNV2_GPU_BACKEND=triton needs less");
    return {format, BlockKernel::tile_block, format.reason, tiles};
}

BlockChoice select_gated(const BlockFormat& format, const InvertedResidualParams& params, const Gpu& gpu)
{
    if (!has_output(params)) return {format, BlockKernel::gated_block, format.reason, std::monostate{}};
    return {format, BlockKernel::gated_block, format.reason, plan_gated(params, gpu)};
}

BlockChoice select_general(const BlockFormat& format, const InvertedResidualParams& params, const Gpu& gpu)
{
    if (!has_output(params)) return {format, BlockKernel::general_block, format.reason, std::monostate{}};
    const GeneralPlan plan = plan_general(params, gpu);
    if (!plan.fits()) throw std::runtime_error(no_general_tile);
    return {format, BlockKernel::general_block, format.reason, plan};
}

}  // namespace

std::span<const BlockReason> block_reasons()
{
    return every_reason;
}

const char* block_kernel_name(BlockKernel kernel)
{
    switch (kernel) {
        case BlockKernel::register_block: return "register_block";
        case BlockKernel::tile_block: return "tile_block";
        case BlockKernel::cluster_block: return "cluster_block";
        case BlockKernel::gated_block: return "gated_block";
        case BlockKernel::general_block: break;
    }
    return "general_block";
}

BlockFormat select_format(const InvertedResidualParams& params, ScalarType packed_type)
{
    if (params.has_gate()) return {Format::gated_block, gated_block_bytes(params), reasons::gate};
    if (const int64_t bytes = register_block_bytes(params, packed_type))
        return {Format::register_block, bytes, reasons::few_channels};
    if (const char* const obstacle = why_not_tiles(params, packed_type))
        return {Format::general_block, general_block_bytes(params, packed_type), obstacle};
    return {Format::tile_block, tile_block_bytes(params, packed_type), reasons::tiles_fit};
}

BlockChoice select_block(const InvertedResidualParams& params, ScalarType packed_type, const Gpu& gpu)
{
    const BlockFormat format = select_format(params, packed_type);
    switch (format.format) {
        case Format::register_block:
            return {format, BlockKernel::register_block, format.reason,
                    plan_patches(*register_shape(params, packed_type), params, gpu)};
        case Format::tile_block: return select_tiles(format, params, packed_type, gpu);
        case Format::gated_block: return select_gated(format, params, gpu);
        default: return select_general(format, params, gpu);
    }
}

}  // namespace mnv2::cuda
