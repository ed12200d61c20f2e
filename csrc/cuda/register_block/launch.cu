#include "cuda/common/arguments.h"
#include "cuda/common/forms.cuh"
#include "cuda/register_block/kernel.cuh"
#include "cuda/register_block/pack.cuh"
#include "cuda/register_block/plan.h"

namespace mnv2::cuda {
namespace {

// Calls visit<Block>() for the kernel of a form.
template <class Visit>
void visit_block(const RegisterShape& shape, ScalarType type, const Visit& visit)
{
    visit_form<register_shapes>(shape, [&]<RegisterShape form>() {
        visit_half(type, [&]<class T>() { visit.template operator()<RegisterBlock<T, form>>(); });
    });
}

}  // namespace

void launch_plan(const RegisterPlan& plan, ScalarType type, const void* x, const void* packed, void* y, const Gpu&,
                 Stream stream)
{
    if (plan.blocks == 0) return;
    RegisterBlockArguments arguments = plan.arguments;
    set_tensors(x, packed, y, arguments);
    visit_block(plan.shape, type, [&]<class Block>() {
        launch_kernel(register_block_kernel<Block>, dim3(static_cast<unsigned>(plan.blocks)), dim3(Block::threads),
                      plan.shared_bytes, stream, arguments);
    });
}

void pack_register_block(const InvertedResidualParams& params, ScalarType type, const ConvolutionWeights& expand,
                         const ConvolutionWeights& depthwise, const ConvolutionWeights& project, void* packed, Stream stream)
{
    visit_block(*register_shape(params, type), type, [&]<class Block>() {
        pack_words(RegisterBlockWords<Block>{{params, expand, depthwise, project}}, register_block_bytes(params, type), packed,
                   stream);
    });
}

}  // namespace mnv2::cuda
