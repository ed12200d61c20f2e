// A block by one kernel, whatever select_block would choose. Each returns false where the kernel serves no such block on the
// GPU.
#pragma once

#include "cuda/cluster_block/plan.h"
#include "cuda/general_block/plan.h"
#include "cuda/register_block/plan.h"
#include "cuda/tile_block/plan.h"

namespace mnv2::test {

inline bool register_block(const InvertedResidualParams& params, ScalarType type, const void* x, const void* packed, void* y,
                           const cuda::Gpu& gpu, cuda::Stream stream)
{
    const cuda::RegisterShape* const shape = cuda::register_shape(params, type);
    if (shape) cuda::launch_plan(cuda::plan_patches(*shape, params, gpu), type, x, packed, y, gpu, stream);
    return shape;
}

inline bool tile_block(const InvertedResidualParams& params, ScalarType type, const void* x, const void* packed, void* y,
                       const cuda::Gpu& gpu, cuda::Stream stream)
{
    if (cuda::why_not_tiles(params, type)) return false;
    const cuda::TilePlan plan = cuda::plan_tiles(params, type, gpu);
    if (plan.warps > 0) cuda::launch_plan(plan, type, x, packed, y, gpu, stream);
    return plan.warps > 0;
}

// From tile_block's packed weights.
inline bool cluster_block(const InvertedResidualParams& params, ScalarType type, const void* x, const void* packed, void* y,
                          const cuda::Gpu& gpu, cuda::Stream stream)
{
    if (!cuda::has_clusters(gpu) || cuda::why_not_tiles(params, type)) return false;
    const cuda::ClusterPlan plan = cuda::plan_clusters(params, gpu);
    if (plan.fits) cuda::launch_plan(plan, type, x, packed, y, gpu, stream);
    return plan.fits;
}

inline bool general_block(const InvertedResidualParams& params, ScalarType type, const void* x, const void* packed, void* y,
                          const cuda::Gpu& gpu, cuda::Stream stream)
{
    if (params.batch == 0 || params.out_height() == 0 || params.out_width() == 0) return true;
    const cuda::GeneralPlan plan = cuda::plan_general(params, gpu);
    if (plan.fits()) cuda::launch_plan(plan, type, x, packed, y, gpu, stream);
    return plan.fits();
}

}  // namespace mnv2::test
