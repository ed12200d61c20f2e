// Packs the weights of stem_block.
#pragma once

#include <cstdint>

#include "cuda/common/pack_words.cuh"
#include "cuda/stem_block/config.h"

namespace mnv2::cuda {

// Scales are multiplied into the weights, which are rounded once.
template <class Block>
struct StemBlockWords {
    using T = typename Block::T;
    LayerWeights stem, depthwise, project;

    __device__ uint32_t operator()(int64_t i) const
    {
        const int at = static_cast<int>(i);
        if (at < Block::depthwise_at) return stem_fragment_word<T>(stem, 0, at);
        if (at < Block::project_at) return depthwise_word(at - Block::depthwise_at);
        return project_word(at - Block::project_at);
    }

private:
    // B fragments are diagonal: a lane has the one number whose row and column are the same.
    __device__ uint32_t depthwise_word(int at) const
    {
        if (at < DepthwiseWords::bias_words) return ptx::float_word(depthwise.bias(BiasFragments<lane_words>::channel_of(at)));
        at -= DepthwiseWords::bias_words;
        const int piece = at / DepthwiseWords::piece_words, lane = at % DepthwiseWords::piece_words / 4;
        const int quad = lane % 4, column = lane / 4;
        if (column / 2 != quad) return 0;
        const int channel = quad * lane_channels + DepthwiseWords::word_of(piece, at % 4) * 2 + column % 2;
        const int tap = DepthwiseWords::tap_of(piece, at % 4);
        const float weight = depthwise.scaled(channel, tap);
        return column % 2 == 0 ? ptx::pack2<T>(weight, 0.0f) : ptx::pack2<T>(0.0f, weight);
    }

    __device__ uint32_t project_word(int at) const
    {
        constexpr int bias_words = BiasFragments<project_column_tiles>::words;
        if (at < bias_words) return ptx::float_word(project.bias(BiasFragments<project_column_tiles>::channel_of(at)));
        at -= bias_words;
        const int fragment = at / StemFragments::fragment_words, lane = at % StemFragments::fragment_words / 2;
        const int step = fragment / project_column_tiles, tile = fragment % project_column_tiles, column = lane / 4;
        const int channel = column / 2 * 4 + tile * 2 + column % 2;
        const int k = lane % 4 * lane_channels + step * 4 + at % 2 * 2;
        return project.depth_pair<T>(channel, k);
    }
};

}  // namespace mnv2::cuda
