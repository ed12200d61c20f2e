// How cluster_block's kernel covers images with clusters, and what each of a cluster's blocks does.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "cuda/cluster_block/config.h"
#include "cuda/gpu.h"
#include "cuda/stream.h"

namespace mnv2::cuda {

// A tile by its strips; `fits` is false where the kernel cannot make it.
struct ClusterPlan {
    ClusterShape shape;
    ClusterArguments arguments{};
    bool fits = false;
    int64_t clusters = 0;
};

// Whether the GPU runs code with clusters; the kernel is empty for older GPUs.
bool has_clusters(const Gpu& gpu);

// The smallest tiles whose clusters all run at once; the largest tiles that fit where none do.
ClusterPlan best_cluster_plan(const ClusterShape& shape, const InvertedResidualParams& params, const Gpu& gpu);

// The plan of the first form that fits, for a block that tile_block serves.
ClusterPlan plan_clusters(const InvertedResidualParams& params, const Gpu& gpu);

void launch_plan(const ClusterPlan& plan, ScalarType type, const void* x, const void* packed, void* y, const Gpu& gpu,
                 Stream stream);

}  // namespace mnv2::cuda
