#include "cuda/common/forms.h"
#include "cuda/launch.h"
#include "cuda/register_block/kernel.cuh"
#include "cuda/register_block/pack.cuh"
#include "cuda/register_block/plan.h"

namespace mnv2::cuda {
namespace {

// Calls visit(Block) for the kernel of a form.
template <class Visit>
void visit_block(const RegisterShape& shape, ScalarType type, const Visit& visit)
{
    visit_form<register_shapes>(shape, [&]<RegisterShape form>() {
        if (type == ScalarType::float16)
            visit(RegisterBlock<__half, form>{});
        else
            visit(RegisterBlock<__nv_bfloat16, form>{});
    });
}

}  // namespace

void launch_plan(const RegisterPlan& plan, ScalarType type, const void* x, const void* packed, void* y, const Gpu&,
                 Stream stream)
{
    if (plan.blocks == 0) return;
    RegisterBlockArguments arguments = plan.arguments;
    arguments.input = x;
    arguments.output = y;
    arguments.packed = static_cast<const uint8_t*>(packed);
    visit_block(plan.shape, type, [&](auto block) {
        using Block = decltype(block);
        launch_kernel(register_block_kernel<Block>, dim3(static_cast<unsigned>(plan.blocks)), dim3(Block::threads),
                      plan.shared_bytes, stream, arguments);
    });
}

bool pack_register_block(const InvertedResidualParams& params, ScalarType type, const ConvolutionWeights& expand,
                         const ConvolutionWeights& depthwise, const ConvolutionWeights& project, void* packed, Stream stream)
{
    const RegisterShape* const shape = register_shape(params, type);
    if (!shape) return false;
    const int64_t words = register_block_bytes(params, type) / static_cast<int64_t>(sizeof(uint32_t));
    visit_block(*shape, type, [&](auto block) {
        pack_words(RegisterBlockWords<decltype(block)>{params.expanded_channels, expand, depthwise, project}, words, packed,
                   stream);
    });
    return true;
}

bool register_block(const InvertedResidualParams& params, ScalarType type, const void* x, const void* packed, void* y,
                    const Gpu& gpu, Stream stream)
{
    const RegisterShape* const shape = register_shape(params, type);
    if (!shape) return false;
    launch_plan(plan_patches(*shape, params, gpu), type, x, packed, y, gpu, stream);
    return true;
}

}  // namespace mnv2::cuda
