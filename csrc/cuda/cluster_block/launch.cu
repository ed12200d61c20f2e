#include "cuda/cluster_block/launch.cuh"

#include <cstddef>
#include <iterator>
#include <utility>

#include "cuda/cluster_block/plan.h"
#include "cuda/launch.h"
#include "cuda/tile_block/plan.h"

namespace mnv2::cuda {
namespace {

// Launches the kernel of the plan's form.
template <class T, size_t... i>
void launch_form(const ClusterPlan& plan, const void* x, const void* packed, void* y, Stream stream, std::index_sequence<i...>)
{
    ((plan.shape == cluster_shapes[i] &&
      (launch_cluster_plan<ClusterTile<T, cluster_shapes[i]>>(plan, x, packed, y, stream), true)) ||
     ...);
}

}  // namespace

void launch_plan(const ClusterPlan& plan, ScalarType type, const void* x, const void* packed, void* y, const Gpu&,
                 Stream stream)
{
    constexpr auto forms = std::make_index_sequence<std::size(cluster_shapes)>{};
    if (type == ScalarType::float16)
        launch_form<__half>(plan, x, packed, y, stream, forms);
    else
        launch_form<__nv_bfloat16>(plan, x, packed, y, stream, forms);
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
