// Which blocks register_block's kernels serve, and how many bytes their weights take.
#pragma once

#include <cstdint>
#include <tuple>

#include "cuda/common/ptx.cuh"
#include "cuda/common/sizes.h"
#include "cuda/register_block/config.h"

namespace mnv2::cuda {

// Patch, warps and blocks per SM: what was fastest on an H100 at batch 256 among those that spill nowhere
// (benchmarks/NOTES.md). Larger patches expand fewer halo pixels, but their fragments fill the registers.
template <class T>
using RegisterBlocks = std::tuple<RegisterBlock<T, 16, 24, 2, 3, 2, 4, 2>, RegisterBlock<T, 24, 24, 1, 4, 2, 4, 2>,
                                  RegisterBlock<T, 24, 32, 2, 2, 2, 4, 2>, RegisterBlock<T, 32, 32, 1, 2, 2, 4, 2>,
                                  RegisterBlock<T, 32, 64, 2, 2, 1, 4, 3>>;

inline int64_t step_count(const InvertedResidualParams& params)
{
    return params.expanded_channels / step_channels;
}

template <class Block>
int64_t packed_bytes(const InvertedResidualParams& params)
{
    return Block::bias_bytes + step_count(params) * Block::step_bytes;
}

// Whole steps only: a channel that merely fills one is 0 by its weights, but NaN where the image is infinite, as its outputs
// would be then.
template <class Block>
bool serves(const InvertedResidualParams& params)
{
    return params.has_expand && params.in_channels == Block::in_channels && params.out_channels == Block::out_channels &&
           params.expanded_channels % step_channels == 0 && params.stride == Block::stride &&
           params.activation != Activation::none && params.project_activation == Activation::none &&
           step_count(params) * Block::step_bytes <= max_shared_bytes;
}

// Calls visit(Block) for the kernel that serves params; false where none does.
template <class T, class Visit>
bool visit_block(const InvertedResidualParams& params, const Visit& visit)
{
    return std::apply([&](auto... blocks) { return ((serves<decltype(blocks)>(params) && (visit(blocks), true)) || ...); },
                      RegisterBlocks<T>{});
}

template <class Visit>
bool visit_block(const InvertedResidualParams& params, ScalarType type, const Visit& visit)
{
    switch (type) {
        case ScalarType::float16: return visit_block<__half>(params, visit);
        case ScalarType::bfloat16: return visit_block<__nv_bfloat16>(params, visit);
        case ScalarType::float32: break;
    }
    return false;
}

}  // namespace mnv2::cuda
