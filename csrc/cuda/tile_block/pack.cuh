// Packs the weights of tile_block.
#pragma once

#include <cstdint>

#include "core/packing.h"
#include "cuda/common/pack_words.cuh"
#include "cuda/tile_block/plan.h"

namespace mnv2::cuda {

// The packed weights, word by word; scales are multiplied into the weights, which are rounded once.
template <class T>
struct TileBlockWords {
    static constexpr int word = sizeof(uint32_t);
    static constexpr int fragment_words = fragment_bytes / word, depthwise_words = depthwise_bytes / word;

    InvertedResidualParams params;
    ConvolutionWeights expand, depthwise, project;
    int64_t bias_words, chunk_words, expand_words;
    int pairs;

    __device__ uint32_t operator()(int64_t i) const
    {
        if (i < bias_words) return ptx::float_word(bias(project, params.out_channels, i));
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
        if (bias_at >= 0) return ptx::float_word(bias(expand, params.expanded_channels, first + bias_at));
        const int64_t channel = first + fragment % chunk_pairs * 16 + at % 4 / 2 * 8 + column(at);
        return pair(expand, params.expanded_channels, params.in_channels, channel, depth(fragment / chunk_pairs, at));
    }

    // A lane's four channels as two pairs, tap by tap, then their bias.
    __device__ uint32_t depthwise_word(int64_t first, int at) const
    {
        const int tap = at % lane_constants / 2;
        const int64_t channel = first + at / lane_constants * 4 + at % 2 * 2;
        if (tap == kernel_taps)
            return ptx::pack2<T>(bias(depthwise, params.expanded_channels, channel),
                                 bias(depthwise, params.expanded_channels, channel + 1));
        return ptx::pack2<T>(scaled_weight(depthwise, params.expanded_channels, kernel_taps, channel, tap),
                             scaled_weight(depthwise, params.expanded_channels, kernel_taps, channel + 1, tap));
    }

    // Column tiles that belong together take channels in turns of two, so that a lane's four sums are neighbours.
    __device__ uint32_t project_word(int64_t first, int64_t at) const
    {
        const int64_t fragment = at / fragment_words, c = column(at);
        const int64_t channel = fragment % pairs * 16 + c / 2 * 4 + at % 4 / 2 * 2 + c % 2;
        return pair(project, params.out_channels, params.expanded_channels, channel, first + depth(fragment / pairs, at));
    }

    // A lane has four words of a fragment: column tiles change every two words, halves of its depths every word.
    __device__ static int64_t column(int64_t at) { return at % fragment_words / 4 / 4; }
    __device__ static int64_t depth(int64_t k, int64_t at) { return k * 16 + at / 4 % 4 * 4 + at % 2 * 2; }

    __device__ static uint32_t pair(const ConvolutionWeights& layer, int64_t channels, int64_t depth, int64_t channel,
                                    int64_t k)
    {
        return ptx::pack2<T>(scaled_weight(layer, channels, depth, channel, k),
                             scaled_weight(layer, channels, depth, channel, k + 1));
    }

    __device__ static float bias(const ConvolutionWeights& layer, int64_t channels, int64_t channel)
    {
        return channel < channels ? layer.bias_of(channel) : 0.0f;
    }
};

template <class T>
void pack_tiles(const InvertedResidualParams& params, const ConvolutionWeights& expand, const ConvolutionWeights& depthwise,
                const ConvolutionWeights& project, void* packed, Stream stream)
{
    constexpr int word = TileBlockWords<T>::word;
    TileArguments sizes{};
    set_shape(params, sizes);
    const TileBlockWords<T> words{params,
                                  expand,
                                  depthwise,
                                  project,
                                  tile_bias_bytes(params) / word,
                                  chunk_bytes(sizes.depths, sizes.pairs) / word,
                                  expand_bytes(sizes.depths) / word,
                                  sizes.pairs};
    pack_words(words, tile_packed_bytes(params) / word, packed, stream);
}

}  // namespace mnv2::cuda
