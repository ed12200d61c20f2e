#include <cstddef>

#include "cuda/common/arguments.h"
#include "cuda/common/forms.cuh"
#include "cuda/general_block/cut.h"
#include "cuda/general_block/kernel.cuh"
#include "cuda/general_block/pack.cuh"
#include "cuda/general_block/plan.h"

namespace mnv2::cuda {
namespace {

GeneralBlockArguments arguments_of(const GeneralPlan& plan, ScalarType type)
{
    const auto number = [](int64_t value) { return static_cast<int>(value); };
    const InvertedResidualParams& params = plan.params;
    const Cut& cut = plan.cut;
    const Halo halo = halo_of(params, cut);
    GeneralBlockArguments arguments{};
    set_block(params, arguments);
    arguments.type = type;
    arguments.blocks = block_count(params, cut);
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
    return arguments;
}

}  // namespace

void launch_plan(const GeneralPlan& plan, ScalarType type, const void* x, const void* packed, void* y, const Gpu& gpu,
                 Stream stream)
{
    GeneralBlockArguments arguments = arguments_of(plan, type);
    set_tensors(x, packed, y, arguments);
    const dim3 grid(static_cast<unsigned>(resident_blocks(gpu, plan.shape.blocks_per_sm, arguments.blocks)));
    const size_t shared_bytes = static_cast<size_t>(arguments.layout.floats) * sizeof(float);
    visit_form<general_shapes>(plan.shape, [&]<GeneralShape shape>() {
        launch_kernel(general_block_kernel<GeneralBlock<shape>>, grid, dim3(shape.threads()), shared_bytes, stream, arguments);
    });
}

void pack_general_block(const InvertedResidualParams& params, ScalarType packed_type, const ConvolutionWeights& expand,
                        const ConvolutionWeights& depthwise, const ConvolutionWeights& project, void* packed, Stream stream)
{
    pack_words(GeneralBlockWords(params, {params, expand, depthwise, project}), general_block_bytes(params, packed_type),
               packed, stream);
}

}  // namespace mnv2::cuda
