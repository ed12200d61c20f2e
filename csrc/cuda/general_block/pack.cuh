// Packs the weights of general_block.
#pragma once

#include <cstdint>

#include "cuda/common/pack_words.cuh"
#include "cuda/general_block/config.h"

namespace mnv2::cuda {

// The packed weights of general_block, word by word.
struct GeneralBlockWords {
    int64_t in_channels, expanded_channels, out_channels;
    int64_t constants_words, chunk_words, expand_words;
    ConvolutionWeights expand, depthwise, project;

    __device__ uint32_t operator()(int64_t i) const { return ptx::float_word(value(i)); }

private:
    __device__ float value(int64_t i) const
    {
        if (i < constants_words) {
            const int64_t row = constants_words / constant_rows;
            return constant(project, out_channels, i / row, i % row);
        }
        const int64_t first = (i - constants_words) / chunk_words * chunk_channels, at = (i - constants_words) % chunk_words;
        const int64_t row = at / chunk_channels, channel = first + at % chunk_channels;
        if (at < expand_words) {
            if (row < constant_rows) return constant(expand, expanded_channels, row, channel);
            return weight(expand, expanded_channels, in_channels, channel, row - constant_rows);
        }
        const int64_t depthwise_row = row - expand_words / chunk_channels;
        if (depthwise_row < kernel_taps) return weight(depthwise, expanded_channels, kernel_taps, channel, depthwise_row);
        if (depthwise_row < depthwise_rows) return constant(depthwise, expanded_channels, depthwise_row - kernel_taps, channel);
        const int64_t columns = constants_words / constant_rows, place = at - expand_words - depthwise_rows * chunk_channels;
        return weight(project, out_channels, expanded_channels, place % columns, first + place / columns);
    }

    __device__ static float weight(const ConvolutionWeights& layer, int64_t channels, int64_t depth, int64_t channel, int64_t k)
    {
        return channel < channels && k < depth ? layer.weight[channel * depth + k] : 0.0f;
    }

    __device__ static float constant(const ConvolutionWeights& layer, int64_t channels, int64_t row, int64_t channel)
    {
        if (channel >= channels) return 0.0f;
        return row == 0 ? layer.scale_of(channel) : layer.bias_of(channel);
    }
};

}  // namespace mnv2::cuda
