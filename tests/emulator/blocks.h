// Blocks by their channels, as MobileNetV2 has them.
#pragma once

#include <array>

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

inline InvertedResidualParams without_expand(int64_t in, int64_t out, int32_t stride)
{
    InvertedResidualParams params = block_of(in, out, stride, in);
    params.has_expand = false;
    return params;
}

// With a larger window, padded to keep its size.
inline InvertedResidualParams with_kernel(InvertedResidualParams params, int32_t kernel)
{
    const int32_t rim = most_padding(kernel);
    params.kernel = kernel;
    params.padding = {rim, rim, rim, rim};
    return params;
}

// size: batch, height, width
template <class Params>
Params at_size(Params params, const std::array<int64_t, 3>& size)
{
    params.batch = size[0];
    params.height = size[1];
    params.width = size[2];
    return params;
}

inline int64_t input_bytes(const InvertedResidualParams& params, ScalarType type)
{
    return params.batch * params.height * params.width * params.in_channels * scalar_bytes(type);
}

inline int64_t output_bytes(const InvertedResidualParams& params, ScalarType type)
{
    return params.batch * params.out_height() * params.out_width() * params.out_channels * scalar_bytes(type);
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
