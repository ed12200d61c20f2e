// Packs and launches the kernel that select_block chooses.
#include <type_traits>
#include <variant>

#include "cuda/launch.h"
#include "cuda/select_block.h"

namespace mnv2::cuda {

int64_t inverted_residual_bytes(const InvertedResidualParams& params, ScalarType packed_type)
{
    return select_format(params, packed_type).packed_bytes;
}

void pack_inverted_residual(const InvertedResidualParams& params, ScalarType packed_type, const ConvolutionWeights& expand,
                            const ConvolutionWeights& depthwise, const ConvolutionWeights& project, void* packed, Stream stream)
{
    switch (select_format(params, packed_type).format) {
        case Format::register_block:
            pack_register_block(params, packed_type, expand, depthwise, project, packed, stream);
            break;
        case Format::tile_block: pack_tile_block(params, packed_type, expand, depthwise, project, packed, stream); break;
        default: pack_general_block(params, packed_type, expand, depthwise, project, packed, stream);
    }
}

Launch plan_inverted_residual(const InvertedResidualParams& params, ScalarType x_type, ScalarType packed_type, const Gpu& gpu)
{
    return std::visit(
        [&]<class Plan>(const Plan& plan) -> Launch {
            return [plan, x_type, gpu](const InputView& x, const void* packed, void* y, Stream stream) {
                if constexpr (!std::is_same_v<Plan, std::monostate>) launch_plan(plan, x_type, x.data, packed, y, gpu, stream);
            };
        },
        select_block(params, packed_type, gpu).plan);
}

void inverted_residual(const InvertedResidualParams& params, ScalarType x_type, ScalarType packed_type, const void* x,
                       const void* packed, void* y, const Gpu& gpu, Stream stream)
{
    plan_inverted_residual(params, x_type, packed_type, gpu)({x, x_type, 0, 0, 0, 0}, packed, y, stream);
}

}  // namespace mnv2::cuda
