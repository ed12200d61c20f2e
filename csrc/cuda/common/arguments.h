// What launches tell the kernels of every block.
#pragma once

#include <cstdint>

#include "core/block.h"

namespace mnv2::cuda {

struct BlockArguments {
    const void* input;
    void* output;
    const uint8_t* packed;
    int64_t batch;
    int in_channels, expanded_channels, out_channels;
    int height, width, out_height, out_width, padding_top, padding_left;
    bool residual;

    void set_block(const InvertedResidualParams& params)
    {
        batch = params.batch;
        in_channels = static_cast<int>(params.in_channels);
        expanded_channels = static_cast<int>(params.expanded_channels);
        out_channels = static_cast<int>(params.out_channels);
        height = static_cast<int>(params.height);
        width = static_cast<int>(params.width);
        out_height = static_cast<int>(params.out_height());
        out_width = static_cast<int>(params.out_width());
        padding_top = params.padding.top;
        padding_left = params.padding.left;
        residual = params.has_residual;
    }

    void set_tensors(const void* x, const void* weights, void* y)
    {
        input = x;
        output = y;
        packed = static_cast<const uint8_t*>(weights);
    }
};

}  // namespace mnv2::cuda
