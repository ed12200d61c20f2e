// Which blocks register_block's kernels serve, and how they cover an image with patches.
#pragma once

#include <cstdint>

#include "core/packing.h"
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

// Bytes of packed weights, 0 where no form serves the block.
int64_t register_block_bytes(const InvertedResidualParams& params, ScalarType type);

void pack_register_block(const InvertedResidualParams& params, ScalarType type, const ConvolutionWeights& expand,
                         const ConvolutionWeights& depthwise, const ConvolutionWeights& project, void* packed, Stream stream);

RegisterPlan plan_patches(const RegisterShape& shape, const InvertedResidualParams& params, const Gpu& gpu);

void launch_plan(const RegisterPlan& plan, ScalarType type, const void* x, const void* packed, void* y, const Gpu& gpu,
                 Stream stream);

}  // namespace mnv2::cuda
