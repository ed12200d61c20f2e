// Which blocks register_block's kernels serve, and how they cover an image with patches.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "cuda/gpu.h"
#include "cuda/register_block/config.h"
#include "cuda/stream.h"

namespace mnv2::cuda {

struct RegisterPlan {
    RegisterShape shape;
    RegisterBlockArguments arguments{};
    int64_t blocks = 0;
    int shared_bytes = 0;
};

// The form that serves a block with weights packed for this type, null where none does; it does not depend on the image.
const RegisterShape* register_shape(const InvertedResidualParams& params, ScalarType type);

RegisterPlan plan_patches(const RegisterShape& shape, const InvertedResidualParams& params, const Gpu& gpu);

void launch_plan(const RegisterPlan& plan, ScalarType type, const void* x, const void* packed, void* y, const Gpu& gpu,
                 Stream stream);

}  // namespace mnv2::cuda
