// Blocks by their channels, as MobileNetV2 has them.
#pragma once

#include "core/block.h"

namespace mnv2::test {

inline InvertedResidualParams block_of(int64_t in, int64_t out, int32_t stride, int64_t expanded)
{
    InvertedResidualParams params{};
    params.in_channels = in;
    params.expanded_channels = expanded;
    params.out_channels = out;
    params.stride = stride;
    params.has_residual = stride == 1 && in == out;
    return params;
}

struct Stage {
    InvertedResidualParams params;
    int64_t size;
};

// Blocks whose expanded tensors fit registers.
const Stage early_stages[] = {{block_of(16, 24, 2, 96), 112},
                              {block_of(24, 24, 1, 144), 56},
                              {block_of(24, 32, 2, 144), 56},
                              {block_of(32, 32, 1, 192), 28},
                              {block_of(32, 64, 2, 192), 28}};

}  // namespace mnv2::test
