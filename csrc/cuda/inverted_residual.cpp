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

void inverted_residual(const InvertedResidualParams& params, ScalarType x_type, ScalarType packed_type, const void* x,
                       const void* packed, void* y, const Gpu& gpu, Stream stream)
{
    std::visit(
        [&]<class Plan>(const Plan& plan) {
            if constexpr (!std::is_same_v<Plan, std::monostate>) launch_plan(plan, x_type, x, packed, y, gpu, stream);
        },
        find_block(params, packed_type, gpu).plan);
}

}  // namespace mnv2::cuda
