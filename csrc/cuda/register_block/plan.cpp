#include "cuda/register_block/plan.h"

#include "core/sizes.h"
#include "cuda/common/arguments.h"
#include "cuda/common/options.h"
#include "cuda/common/sizes.h"

namespace mnv2::cuda {
namespace {

int64_t step_count(const InvertedResidualParams& params)
{
    return params.expanded_channels / step_channels;
}

// Serves whole steps only: a channel that merely filled a step would be NaN where the image is infinite, and so would every
// output.
bool serves(const RegisterShape& shape, const InvertedResidualParams& params)
{
    return params.has_expand && params.in_channels == shape.in_channels && params.out_channels == shape.out_channels &&
           params.expanded_channels % step_channels == 0 && params.stride == shape.stride && !unserved_option(params) &&
           step_count(params) * shape.step_bytes() <= max_shared_bytes;
}

}  // namespace

const RegisterShape* register_shape(const InvertedResidualParams& params, ScalarType type)
{
    if (type == ScalarType::float32) return nullptr;
    for (const RegisterShape& shape : register_shapes)
        if (serves(shape, params)) return &shape;
    return nullptr;
}

int64_t register_block_bytes(const InvertedResidualParams& params, ScalarType type)
{
    const RegisterShape* const shape = register_shape(params, type);
    return shape ? shape->bias_bytes() + step_count(params) * shape->step_bytes() : 0;
}

RegisterPlan plan_patches(const RegisterShape& shape, const InvertedResidualParams& params, const Gpu& gpu)
{
    RegisterPlan plan{shape};
    RegisterBlockArguments& a = plan.arguments;
    set_block(params, a);
    a.steps = static_cast<int>(step_count(params));
    a.patch_rows = divide_up(a.out_height, shape.patch_height);
    a.patch_columns = divide_up(a.out_width, shape.patch_width);
    a.patches = params.batch * a.patch_rows * static_cast<int64_t>(a.patch_columns);
    a.high = clamp_of(params.activation).high;

    plan.blocks = resident_blocks(gpu, shape.blocks_per_sm, divide_up(a.patches, shape.warps * patches_per_warp));
    plan.shared_bytes = a.steps * shape.step_bytes();
    return plan;
}

}  // namespace mnv2::cuda
