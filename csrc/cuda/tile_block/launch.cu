#include "cuda/tile_block/launch.cuh"

#include "cuda/common/forms.cuh"
#include "cuda/tile_block/pack.cuh"
#include "cuda/tile_block/plan.h"

namespace mnv2::cuda {
namespace {

template <class T>
constexpr auto compiled_shapes = tile_shapes(ptx::is_half<T> ? ScalarType::float16 : ScalarType::bfloat16);

}  // namespace

void launch_plan(const TilePlan& plan, ScalarType type, const void* x, const void* packed, void* y, const Gpu&, Stream stream)
{
    visit_half(type, [&]<class T>() {
        visit_form<compiled_shapes<T>>(
            plan.shape, [&]<TileShape shape>() { launch_tiles<TileBlock<T, shape>>(plan, x, packed, y, stream); });
    });
}

void pack_tile_block(const InvertedResidualParams& params, ScalarType type, const ConvolutionWeights& expand,
                     const ConvolutionWeights& depthwise, const ConvolutionWeights& project, void* packed, Stream stream)
{
    visit_half(type, [&]<class T>() {
        pack_words(TileBlockWords<T>(params, {params, expand, depthwise, project}), tile_packed_bytes(params), packed, stream);
    });
}

}  // namespace mnv2::cuda
