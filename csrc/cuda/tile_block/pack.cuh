// Packs the weights of tile_block.
#pragma once

#include <cstdint>

#include "core/packing.h"
#include "cuda/common/pack_words.cuh"
#include "cuda/tile_block/plan.h"

namespace mnv2::cuda {

// The packed weights, word by word; scales are multiplied into the weights, which are rounded once.
template <class T>
struct TileBlockWords : BlockWeights {
    static constexpr int word = sizeof(uint32_t);
    static constexpr int fragment_words = fragment_bytes / word, depthwise_words = depthwise_bytes / word;

    int pairs;
    int64_t bias_words, chunk_words, expand_words;

    TileBlockWords(const InvertedResidualParams& params, const BlockWeights& block) : BlockWeights(block)
    {
        TileArguments sizes{};
        set_shape(params, sizes);
        pairs = sizes.pairs;
        bias_words = tile_bias_bytes(params) / word;
        chunk_words = chunk_bytes(sizes.depths, sizes.pairs) / word;
        expand_words = expand_bytes(sizes.depths) / word;
    }

    __device__ uint32_t operator()(int64_t i) const
    {
        if (i < bias_words) return ptx::float_word(project.bias(i));
        const int64_t first = (i - bias_words) / chunk_words * chunk_channels;
        int64_t at = (i - bias_words) % chunk_words;
        if (at < expand_words) return expand_word(first, at);
        at -= expand_words;
        return at < depthwise_words ? depthwise_word(first, static_cast<int>(at)) : project_word(first, at - depthwise_words);
    }

    // A pair of column tiles for each 16 depths, then the bias.
    __device__ uint32_t expand_word(int64_t first, int64_t at) const
    {
        const int64_t fragment = at / fragment_words, bias_at = at - (expand_words - chunk_channels);
        if (bias_at >= 0) return ptx::float_word(expand.bias(first + bias_at));
        const int64_t channel = first + fragment % chunk_pairs * 16 + at % 4 / 2 * 8 + column(at);
        return expand.depth_pair<T>(channel, depth(fragment / chunk_pairs, at));
    }

    // A lane's four channels as two pairs, tap by tap, then their bias.
    __device__ uint32_t depthwise_word(int64_t first, int at) const
    {
        const int tap = at % lane_constants / 2;
        const int64_t channel = first + at / lane_constants * 4 + at % 2 * 2;
        return tap == kernel_taps ? depthwise.bias_pair<T>(channel) : depthwise.channel_pair<T>(channel, tap);
    }

    // Column tiles that belong together take channels in turns of two, so that a lane's four sums are neighbours.
    __device__ uint32_t project_word(int64_t first, int64_t at) const
    {
        const int64_t fragment = at / fragment_words, c = column(at);
        const int64_t channel = fragment % pairs * 16 + c / 2 * 4 + at % 4 / 2 * 2 + c % 2;
        return project.depth_pair<T>(channel, first + depth(fragment / pairs, at));
    }

    // A lane has four words of a fragment: column tiles change every two words, halves of its depths every word.
    __device__ static int64_t column(int64_t at) { return at % fragment_words / 4 / 4; }
    __device__ static int64_t depth(int64_t k, int64_t at) { return k * 16 + at / 4 % 4 * 4 + at % 2 * 2; }
};

}  // namespace mnv2::cuda
