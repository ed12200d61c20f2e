#include "cuda/cluster_block/launch.cuh"

#include "cuda/cluster_block/plan.h"
#include "cuda/common/forms.cuh"

namespace mnv2::cuda {

void launch_plan(const ClusterPlan& plan, ScalarType type, const void* x, const void* packed, void* y, const Gpu&,
                 Stream stream)
{
    visit_half(type, [&]<class T>() {
        visit_form<cluster_shapes>(
            plan.shape, [&]<ClusterShape shape>() { launch_cluster_plan<ClusterTile<T, shape>>(plan, x, packed, y, stream); });
    });
}

}  // namespace mnv2::cuda
