// Blocks whose shapes, options and layouts cover what the kernels distinguish.
#pragma once

#include <cstdint>
#include <vector>

#include "cases.h"
#include "shapes.h"

namespace mnv2::test {

using BlockCase = Case<InvertedResidualParams>;

inline InvertedResidualParams block(Size size, int64_t in_channels, int64_t expanded_channels, int64_t out_channels)
{
    InvertedResidualParams params = sized(layer_of<InvertedResidualParams>(in_channels, out_channels), size);
    params.expanded_channels = expanded_channels;
    params.stride = 1;
    return params;
}

inline InvertedResidualParams strided(InvertedResidualParams params)
{
    params.stride = 2;
    return params;
}

inline InvertedResidualParams without_expand(InvertedResidualParams params)
{
    params.has_expand = false;
    params.expanded_channels = params.in_channels;
    return params;
}

inline InvertedResidualParams with_residual(InvertedResidualParams params)
{
    params.has_residual = true;
    params.out_channels = params.in_channels;
    return params;
}

// Padded so that a convolution of stride 1 keeps an image's size.
inline InvertedResidualParams with_kernel(InvertedResidualParams params, int32_t kernel)
{
    const int32_t side = most_padding(kernel);
    params.kernel = kernel;
    params.padding = {side, side, side, side};
    return params;
}

inline InvertedResidualParams gated(InvertedResidualParams params, int64_t squeezed_channels)
{
    params.squeezed_channels = squeezed_channels;
    return params;
}

// A few blocks that differ in everything, for the tests that run each of them many times.
inline std::vector<InvertedResidualParams> varied_blocks()
{
    std::vector<InvertedResidualParams> blocks = {
        with_residual(block({7, 5}, 17, 51, 0)),
        with_residual(without_expand(block({15, 17}, 24, 0, 0))),
        without_expand(block({14, 14}, 51, 0, 17)),
        block({14, 14}, 24, 144, 8),
        block({15, 17}, 3, 17, 200),
        block({2, 3}, 200, 96, 1),
        with_residual(block({9, 28}, 8, 200, 0)),
        with_kernel(with_residual(block({10, 9}, 16, 72, 0)), 5),
        with_kernel(without_expand(block({9, 15}, 35, 0, 24)), 7),
    };
    blocks[3].stride = blocks[4].stride = 2;
    blocks[4].padding = {0, 0, 1, 1};
    blocks[5].project_activation = Activation::relu6;
    blocks[7].activation = Activation::silu;
    blocks[8].activation = Activation::hardswish;
    blocks[8].project_activation = Activation::silu;
    blocks[8].stride = 2;
    return blocks;
}

}  // namespace mnv2::test
