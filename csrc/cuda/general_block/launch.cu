#include <algorithm>
#include <cstddef>
#include <stdexcept>

#include "cuda/common/forms.h"
#include "cuda/general_block/cut.h"
#include "cuda/general_block/kernel.cuh"
#include "cuda/general_block/pack.cuh"
#include "cuda/general_block/plan.h"
#include "cuda/launch.h"

namespace mnv2::cuda {
namespace {

GeneralBlockArguments arguments_of(const GeneralPlan& plan, ScalarType type, const void* x, const void* packed, void* y)
{
    const auto number = [](int64_t value) { return static_cast<int>(value); };
    const InvertedResidualParams& params = plan.params;
    const Cut& cut = plan.cut;
    const Halo halo = halo_of(params, cut);
    GeneralBlockArguments arguments{};
    arguments.type = type;
    arguments.input = x;
    arguments.output = y;
    arguments.packed = static_cast<const float*>(packed);
    arguments.batch = params.batch;
    arguments.blocks = block_count(params, cut);
    arguments.in_channels = number(params.in_channels);
    arguments.expanded_channels = number(params.expanded_channels);
    arguments.out_channels = number(params.out_channels);
    arguments.height = number(params.height);
    arguments.width = number(params.width);
    arguments.out_height = number(params.out_height());
    arguments.out_width = number(params.out_width());
    arguments.padding_top = params.padding.top;
    arguments.padding_left = params.padding.left;
    arguments.stride = params.stride;
    arguments.images = number(cut.images);
    arguments.tile_height = number(cut.tile_height);
    arguments.tile_width = number(cut.tile_width);
    arguments.halo_height = number(halo.height);
    arguments.halo_width = number(halo.width);
    arguments.tile_rows = number(divide_up(params.out_height(), cut.tile_height));
    arguments.tile_columns = number(divide_up(params.out_width(), cut.tile_width));
    arguments.slices = number(slice_count(params, cut));
    arguments.slice_channels = number(cut.slice_channels);
    arguments.slabs = number(slab_count(params));
    arguments.depth = number(depth_of_slabs(params));
    arguments.planes = number(cut.planes);
    arguments.layout = plan.layout;
    arguments.clamp = clamp_of(params.activation);
    arguments.project_clamp = clamp_of(params.project_activation);
    arguments.has_expand = params.has_expand;
    arguments.residual = params.has_residual;
    return arguments;
}

}  // namespace

void launch_plan(const GeneralPlan& plan, ScalarType type, const void* x, const void* packed, void* y, const Gpu& gpu,
                 Stream stream)
{
    const GeneralBlockArguments arguments = arguments_of(plan, type, x, packed, y);
    const int64_t most_blocks = int64_t{gpu.sm_count} * plan.shape.blocks_per_sm;
    const dim3 grid(static_cast<unsigned>(std::min(most_blocks, arguments.blocks)));
    const size_t shared_bytes = static_cast<size_t>(arguments.layout.floats) * sizeof(float);
    visit_form<general_shapes>(plan.shape, [&]<GeneralShape shape>() {
        launch_kernel(general_block_kernel<GeneralBlock<shape>>, grid, dim3(shape.threads()), shared_bytes, stream, arguments);
    });
}

void pack_general_block(const InvertedResidualParams& params, ScalarType packed_type, const ConvolutionWeights& expand,
                        const ConvolutionWeights& depthwise, const ConvolutionWeights& project, void* packed, Stream stream)
{
    const GeneralBlockWords words{params.in_channels,
                                  params.expanded_channels,
                                  params.out_channels,
                                  constants_floats(params),
                                  chunk_floats(params),
                                  expand_floats(static_cast<int>(params.in_channels), params.has_expand),
                                  expand,
                                  depthwise,
                                  project};
    pack_words(words, general_block_bytes(params, packed_type) / static_cast<int64_t>(sizeof(uint32_t)), packed, stream);
}

void general_block(const InvertedResidualParams& params, ScalarType x_type, ScalarType, const void* x, const void* packed,
                   void* y, const Gpu& gpu, Stream stream)
{
    if (params.batch == 0 || params.out_height() == 0 || params.out_width() == 0) return;
    const GeneralPlan plan = plan_general(params, gpu);
    if (!plan.fits()) throw std::runtime_error(no_general_tile);
    launch_plan(plan, x_type, x, packed, y, gpu, stream);
}

}  // namespace mnv2::cuda
