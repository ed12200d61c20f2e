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

void pack_inverted_residual(const InvertedResidualParams& params, ScalarType packed_type, const BlockConvolutions& weights,
                            void* packed, Stream stream)
{
    const auto by = [&](const auto& pack) {
        pack(params, packed_type, weights.expand, weights.depthwise, weights.project, packed, stream);
    };
    switch (select_format(params, packed_type).format) {
        case Format::register_block: return by(pack_register_block);
        case Format::tile_block: return by(pack_tile_block);
        case Format::gated_block: return pack_gated_block(params, weights, packed, stream);
        case Format::general_block: return by(pack_general_block);
    }
}

PlannedBlock plan_inverted_residual(const InvertedResidualParams& params, ScalarType x_type, ScalarType packed_type,
                                    const Gpu& gpu)
{
    return std::visit(
        [&]<class Plan>(const Plan& plan) -> PlannedBlock {
            if constexpr (std::is_same_v<Plan, std::monostate>)
                return {[](const InputView&, const void*, void*, void*, Stream) {}};
            else if constexpr (std::is_same_v<Plan, GatedPlan>)
                return {[plan, x_type, gpu](const InputView& x, const void* packed, void* y, void* scratch, Stream stream) {
                            launch_plan(plan, x_type, x.data, packed, y, scratch, gpu, stream);
                        },
                        plan.scratch(x_type).end};
            else
                return {[plan, x_type, gpu](const InputView& x, const void* packed, void* y, void*, Stream stream) {
                    launch_plan(plan, x_type, x.data, packed, y, gpu, stream);
                }};
        },
        select_block(params, packed_type, gpu).plan);
}

}  // namespace mnv2::cuda
