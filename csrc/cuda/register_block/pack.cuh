// Packs the weights of register_block.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/common/pack_words.cuh"
#include "cuda/register_block/config.h"

namespace mnv2::cuda {

// The packed weights of register_block, word by word; scales are multiplied into the weights, which are rounded once.
template <class Block>
struct RegisterBlockWords : BlockWeights {
    using T = typename Block::T;
    static constexpr int word = sizeof(uint32_t);
    static constexpr int bias_words = Block::bias_bytes / word, step_words = Block::step_bytes / word;
    static constexpr int half_words = Block::half_bytes / word, expand_words = Block::expand_bytes / word;
    static constexpr int fragment_words = fragment16_bytes / word;
    static constexpr int constants_words = sizeof(HalfConstants<T>) / word;

    __device__ uint32_t operator()(int64_t i) const
    {
        if (i < bias_words) return ptx::float_word(project.bias(i));
        const int64_t first = (i - bias_words) / step_words * step_channels;
        const int at = static_cast<int>((i - bias_words) % step_words);
        if (at >= 2 * half_words) return project_word(first, at - 2 * half_words);
        const int64_t first_of_half = first + at / half_words * half_channels;
        const int place = at % half_words;
        if (place >= expand_words) return constants_word(first_of_half, place - expand_words);
        return expand_word(first_of_half, place);
    }

private:
    // The fragments of eight expanded channels from first on.
    __device__ uint32_t expand_word(int64_t first, int at) const
    {
        const int depth = at / fragment_words * 16;
        const bool whole = Block::in_channels - depth >= 16;
        const int lane = whole ? at % fragment_words / 2 : at % fragment_words;
        const int k = depth + (whole ? lane % 4 * 4 + at % 2 * 2 : lane % 4 * 2);
        return expand.depth_pair<T>(first + lane / 4, k);
    }

    __device__ uint32_t constants_word(int64_t first, int at) const
    {
        constexpr int taps_at = offsetof(HalfConstants<T>, taps) / word;
        constexpr int bias_at = offsetof(HalfConstants<T>, depthwise_bias) / word;
        const int64_t channel = first + at / constants_words * 2;
        at %= constants_words;
        if (at < taps_at) return ptx::float_word(expand.bias(channel + at % 2));
        if (at < bias_at) return depthwise.channel_pair<T>(channel, at - taps_at);
        return at == bias_at ? depthwise.bias_pair<T>(channel) : 0u;
    }

    // The projection's fragments for 16 expanded channels from first on, columns in the order of first_channel.
    __device__ uint32_t project_word(int64_t first, int at) const
    {
        const int lane = at % fragment_words / 2, column = lane / 4;
        const int channel = first_channel<Block>(at / fragment_words, column / 2) + column % 2;
        return project.depth_pair<T>(channel, first + lane % 4 * 2 + at % 2 * 8);
    }
};

}  // namespace mnv2::cuda
