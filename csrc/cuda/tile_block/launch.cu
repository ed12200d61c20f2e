#include "cuda/tile_block/launch.cuh"

#include "cuda/common/forms.h"
#include "cuda/launch.h"
#include "cuda/tile_block/pack.cuh"
#include "cuda/tile_block/plan.h"

namespace mnv2::cuda {
namespace {

template <class T>
constexpr auto compiled_shapes = tile_shapes(ptx::is_half<T> ? ScalarType::float16 : ScalarType::bfloat16);

}  // namespace

void launch_plan(const TilePlan& plan, ScalarType type, const void* x, const void* packed, void* y, const Gpu&, Stream stream)
{
    const auto launch = [&]<class T>(T) {
        visit_form<compiled_shapes<T>>(
            plan.shape, [&]<TileShape shape>() { launch_tiles<TileBlock<T, shape>>(plan, x, packed, y, stream); });
    };
    type == ScalarType::float16 ? launch(__half{}) : launch(__nv_bfloat16{});
}

bool pack_tile_block(const InvertedResidualParams& params, ScalarType type, const ConvolutionWeights& expand,
                     const ConvolutionWeights& depthwise, const ConvolutionWeights& project, void* packed, Stream stream)
{
    if (why_not_tiles(params, type)) return false;
    if (type == ScalarType::float16)
        pack_tiles<__half>(params, expand, depthwise, project, packed, stream);
    else
        pack_tiles<__nv_bfloat16>(params, expand, depthwise, project, packed, stream);
    return true;
}

bool tile_block(const InvertedResidualParams& params, ScalarType type, const void* x, const void* packed, void* y,
                const Gpu& gpu, Stream stream)
{
    if (why_not_tiles(params, type)) return false;
    const TilePlan plan = plan_tiles(params, type, gpu);
    if (plan.warps > 0) launch_plan(plan, type, x, packed, y, gpu, stream);
    return plan.warps > 0;
}

}  // namespace mnv2::cuda
