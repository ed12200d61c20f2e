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

}  // namespace mnv2::test
