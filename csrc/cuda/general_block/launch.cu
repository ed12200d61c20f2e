#include <cstddef>

#include "cuda/common/forms.cuh"
#include "cuda/general_block/cut.h"
#include "cuda/general_block/kernel.cuh"
#include "cuda/general_block/pack.cuh"
#include "cuda/general_block/plan.h"

namespace mnv2::cuda {
namespace {

void launch_kernel_of(const GeneralPlan& plan, const GeneralBlockArguments& arguments, const Gpu& gpu, Stream stream)
{
    const dim3 grid(static_cast<unsigned>(resident_blocks(gpu, plan.shape.blocks_per_sm, arguments.blocks)));
    const size_t shared_bytes = static_cast<size_t>(arguments.layout.floats) * sizeof(float);
    visit_form<general_shapes>(plan.shape, [&]<GeneralShape shape>() {
        launch_kernel(general_block_kernel<GeneralBlock<shape>>, grid, dim3(shape.threads()), shared_bytes, stream, arguments);
    });
}

}  // namespace

void launch_plan(const GeneralPlan& plan, ScalarType type, const void* x, const void* packed, void* y, const Gpu& gpu,
                 Stream stream)
{
    GeneralBlockArguments arguments = general_arguments(plan.params, plan.cut, plan.layout, type);
    set_tensors(x, packed, y, arguments);
    arguments.shortcut = x;
    launch_kernel_of(plan, arguments, gpu, stream);
}

void launch_gated_projection(const GeneralPlan& plan, ScalarType type, const GatedProjection& from, const void* packed, void* y,
                             const Gpu& gpu, Stream stream)
{
    GeneralBlockArguments arguments = general_arguments(plan.params, plan.cut, plan.layout, type);
    set_tensors(from.depthwise_out, packed, y, arguments);
    arguments.shortcut = from.shortcut;
    arguments.factors = from.factors;
    launch_kernel_of(plan, arguments, gpu, stream);
}

void pack_general_block(const InvertedResidualParams& params, ScalarType packed_type, const ConvolutionWeights& expand,
                        const ConvolutionWeights& depthwise, const ConvolutionWeights& project, void* packed, Stream stream)
{
    pack_words(GeneralBlockWords(params, {params, expand, depthwise, project}), general_block_bytes(params, packed_type),
               packed, stream);
}

}  // namespace mnv2::cuda
