#include "cuda/cluster_block/launch.cuh"

#include "cuda/cluster_block/plan.h"
#include "cuda/common/forms.h"
#include "cuda/launch.h"
#include "cuda/tile_block/plan.h"

namespace mnv2::cuda {

void launch_plan(const ClusterPlan& plan, ScalarType type, const void* x, const void* packed, void* y, const Gpu&,
                 Stream stream)
{
    const auto launch = [&]<class T>(T) {
        visit_form<cluster_shapes>(
            plan.shape, [&]<ClusterShape shape>() { launch_cluster_plan<ClusterTile<T, shape>>(plan, x, packed, y, stream); });
    };
    type == ScalarType::float16 ? launch(__half{}) : launch(__nv_bfloat16{});
}

bool cluster_block(const InvertedResidualParams& params, ScalarType type, const void* x, const void* packed, void* y,
                   const Gpu& gpu, Stream stream)
{
    if (!has_clusters(gpu) || why_not_tiles(params, type)) return false;
    const ClusterPlan plan = plan_clusters(params, gpu);
    if (plan.fits) launch_plan(plan, type, x, packed, y, gpu, stream);
    return plan.fits;
}

}  // namespace mnv2::cuda
