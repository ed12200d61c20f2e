#include "cuda/cluster_block/launch.cuh"

#include "cuda/cluster_block/plan.h"
#include "cuda/launch.h"

namespace mnv2::cuda {
namespace {

constexpr int32_t least_code = 90;  // that has clusters; the kernel is empty for older GPUs

// Where shared memory is too small for eight chunks of the project layer's weights, as for MobileNetV2 1.4's last block;
// none of stride 2 is so wide.
template <class T>
using WideClusterTile = ClusterTile<T, 1, 6>;

template <class Tile>
bool run(const InvertedResidualParams& params, const void* x, const void* packed, void* y, const Gpu& gpu, Stream stream)
{
    const ClusterPlan plan = best_cluster_plan<Tile>(params, gpu);
    if (plan.fits) launch_cluster_plan<Tile>(plan, x, packed, y, stream);
    return plan.fits;
}

}  // namespace

bool prefers_cluster_block(const InvertedResidualParams& params, ScalarType type, const Gpu& gpu)
{
    return gpu.code >= least_code && 2 * tile_block_grid(params, type, gpu) < gpu.sm_count;
}

bool cluster_block(const InvertedResidualParams& params, ScalarType type, const void* x, const void* packed, void* y,
                   const Gpu& gpu, Stream stream)
{
    if (gpu.code < least_code || tile_block_bytes(params, type) == 0) return false;
    const auto run_type = [&]<class T>(T) {
        if (params.stride == 2) return run<ClusterTile<T, 2>>(params, x, packed, y, gpu, stream);
        return run<ClusterTile<T, 1>>(params, x, packed, y, gpu, stream) ||
               run<WideClusterTile<T>>(params, x, packed, y, gpu, stream);
    };
    return type == ScalarType::float16 ? run_type(__half{}) : run_type(__nv_bfloat16{});
}

}  // namespace mnv2::cuda
