// What launches tell the kernels of every block. Not a base class: with one, nvcc spends 80 instructions more on a tile's
// place.
#pragma once

#include "core/block.h"

namespace mnv2::cuda {

// Sets the sizes of a block's images and, where the arguments have them, its channels and batch.
template <class Arguments>
void set_block(const InvertedResidualParams& params, Arguments& a)
{
    if constexpr (requires { a.in_channels; }) {
        a.batch = params.batch;
        a.in_channels = static_cast<int>(params.in_channels);
        a.expanded_channels = static_cast<int>(params.expanded_channels);
        a.out_channels = static_cast<int>(params.out_channels);
    }
    a.height = static_cast<int>(params.height);
    a.width = static_cast<int>(params.width);
    a.out_height = static_cast<int>(params.out_height());
    a.out_width = static_cast<int>(params.out_width());
    a.padding_top = params.padding.top;
    a.padding_left = params.padding.left;
    a.residual = params.has_residual;
}

template <class Arguments>
void set_tensors(const void* x, const void* packed, void* y, Arguments& a)
{
    a.input = x;
    a.output = y;
    a.packed = static_cast<decltype(a.packed)>(packed);
}

}  // namespace mnv2::cuda
