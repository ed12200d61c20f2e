// Launches a plan of tile_block.
#pragma once

#include "cuda/common/arguments.h"
#include "cuda/tile_block/kernel.cuh"
#include "cuda/tile_block/plan.h"

namespace mnv2::cuda {

template <class Tile>
void launch_tiles(const TilePlan& plan, const void* x, const void* packed, void* y, Stream stream)
{
    TileArguments arguments = plan.arguments;
    set_tensors(x, packed, y, arguments);
    if (plan.blocks == 0) return;
    launch_kernel(tile_block_kernel<Tile>, dim3(static_cast<unsigned>(plan.blocks)), dim3(32 * plan.warps),
                  arguments.shared_bytes, stream, arguments);
}

}  // namespace mnv2::cuda
