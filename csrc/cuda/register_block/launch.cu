#include <cstddef>
#include <iterator>
#include <utility>

#include "cuda/launch.h"
#include "cuda/register_block/kernel.cuh"
#include "cuda/register_block/pack.cuh"
#include "cuda/register_block/plan.h"

namespace mnv2::cuda {
namespace {

constexpr auto every_form = std::make_index_sequence<std::size(register_shapes)>{};

// Calls visit(Block) for the kernel of a form.
template <class T, class Visit, size_t... i>
void visit_form(const RegisterShape& shape, const Visit& visit, std::index_sequence<i...>)
{
    ((shape == register_shapes[i] && (visit(RegisterBlock<T, register_shapes[i]>{}), true)) || ...);
}

template <class Visit>
void visit_form(const RegisterShape& shape, ScalarType type, const Visit& visit)
{
    if (type == ScalarType::float16)
        visit_form<__half>(shape, visit, every_form);
    else
        visit_form<__nv_bfloat16>(shape, visit, every_form);
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
    visit_form(plan.shape, type, [&](auto block) {
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
    visit_form(*shape, type, [&](auto block) {
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
