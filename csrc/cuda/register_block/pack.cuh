// Packs the weights of register_block.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/common/pack_words.cuh"
#include "cuda/register_block/config.h"

namespace mnv2::cuda {

// The packed weights of register_block, word by word; scales are multiplied into the weights, which are rounded once.
template <class Block>
struct RegisterBlockWords {
    using T = typename Block::T;
    static constexpr int word = sizeof(uint32_t);
    static constexpr int bias_words = Block::bias_bytes / word, step_words = Block::step_bytes / word;
    static constexpr int half_words = Block::half_bytes / word, expand_words = Block::expand_bytes / word;
    static constexpr int fragment_words = fragment16_bytes / word;
    static constexpr int constants_words = sizeof(HalfConstants<T>) / word;

    int64_t expanded_channels;
    ConvolutionWeights expand, depthwise, project;

    __device__ uint32_t operator()(int64_t i) const
    {
        if (i < bias_words) return ptx::float_word(project.bias_of(i));
        const int64_t first = (i - bias_words) / step_words * step_channels;
        const int at = static_cast<int>((i - bias_words) % step_words);
        if (at >= 2 * half_words) return project_word(first, at - 2 * half_words);
        return half_word(first + at / half_words * half_channels, at % half_words);
    }

private:
    // One half of a step: eight expanded channels from first on.
    __device__ uint32_t half_word(int64_t first, int at) const
    {
        if (at >= expand_words) return constants_word(first, at - expand_words);
        const int depth = at / fragment_words * 16;
        const bool whole = Block::in_channels - depth >= 16;
        const int lane = whole ? at % fragment_words / 2 : at % fragment_words;
        const int k = depth + (whole ? lane % 4 * 4 + at % 2 * 2 : lane % 4 * 2);
        return pair(expand, expanded_channels, Block::in_channels, first + lane / 4, k);
    }

    __device__ uint32_t constants_word(int64_t first, int at) const
    {
        constexpr int taps_at = offsetof(HalfConstants<T>, taps) / word;
        constexpr int bias_at = offsetof(HalfConstants<T>, depthwise_bias) / word;
        const int64_t channel = first + at / constants_words * 2;
        at %= constants_words;
        if (at < taps_at) return ptx::float_word(expand.bias_of(channel + at % 2));
        if (at < bias_at) {
            const int tap = at - taps_at;
            return ptx::pack2<T>(scaled_weight(depthwise, expanded_channels, kernel_taps, channel, tap),
                                 scaled_weight(depthwise, expanded_channels, kernel_taps, channel + 1, tap));
        }
        return at == bias_at ? ptx::pack2<T>(depthwise.bias_of(channel), depthwise.bias_of(channel + 1)) : 0u;
    }

    // The projection's fragments for 16 expanded channels from first on, columns in the order of first_channel.
    __device__ uint32_t project_word(int64_t first, int at) const
    {
        const int lane = at % fragment_words / 2, column = lane / 4;
        const int channel = first_channel<Block>(at / fragment_words, column / 2) + column % 2;
        return pair(project, Block::out_channels, expanded_channels, channel, first + lane % 4 * 2 + at % 2 * 8);
    }

    __device__ static uint32_t pair(const ConvolutionWeights& layer, int64_t channels, int64_t depth, int64_t channel,
                                    int64_t k)
    {
        return ptx::pack2<T>(scaled_weight(layer, channels, depth, channel, k),
                             scaled_weight(layer, channels, depth, channel, k + 1));
    }
};

}  // namespace mnv2::cuda
