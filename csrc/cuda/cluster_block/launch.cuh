// Launches a plan of cluster_block.
#pragma once

#include "cuda/cluster_block/kernel.cuh"
#include "cuda/cluster_block/plan.h"
#include "cuda/common/arguments.h"

namespace mnv2::cuda {

template <class Tile>
void launch_cluster_plan(const ClusterPlan& plan, const void* x, const void* packed, void* y, Stream stream)
{
    ClusterArguments arguments = plan.arguments;
    set_tensors(x, packed, y, arguments.tile);
    if (plan.clusters == 0) return;
    launch_clusters(cluster_block_kernel<Tile>, static_cast<unsigned>(plan.clusters), cluster_blocks,
                    dim3(32 * Tile::most_warps), arguments.tile.shared_bytes, stream, arguments);
}

}  // namespace mnv2::cuda
