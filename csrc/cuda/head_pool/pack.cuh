// Packs the weights of head_pool.
#pragma once

#include <cstdint>

#include "cuda/common/pack_words.cuh"
#include "cuda/common/sizes.h"
#include "cuda/head_pool/config.h"

namespace mnv2::cuda {

inline bool as_fragments(const HeadPoolParams& params, ScalarType packed_type)
{
    return packed_type != ScalarType::float32 && params.in_channels % 8 == 0 && params.out_channels % 8 == 0;
}

inline int64_t group_count(const HeadPoolParams& params)
{
    return divide_up(params.out_channels, head_group_channels);
}

inline int64_t packed_words(const HeadPoolParams& params, ScalarType packed_type)
{
    if (!as_fragments(params, packed_type))
        return (params.in_channels + 2) * round_up(params.out_channels, head_padded_channels);
    const int64_t steps = divide_up(params.in_channels, head_step_depth);
    return group_count(params) * (head_group_channels + steps * head_step_words);
}

// Scales are multiplied into the weights, which are rounded once.
template <class T>
struct HeadFragmentWords {
    int64_t in_channels, out_channels, groups, steps;
    ConvolutionWeights layer;

    __device__ uint32_t operator()(int64_t i) const
    {
        const int64_t biases = groups * head_group_channels;
        if (i < biases) return ptx::float_word(i < out_channels ? layer.bias_of(i) : 0.0f);
        i -= biases;
        const int64_t group = i / head_step_words / steps, step = i / head_step_words % steps;
        const int at = static_cast<int>(i % head_step_words), lane = at % head_fragment_words / 4;
        const int64_t channel = group * head_group_channels + at / head_fragment_words * 16 + lane / 4 * 2 + at % 2;
        const int64_t k = step * head_step_depth + lane % 4 * 4 + at % 4 / 2 * 2;
        return ptx::pack2<T>(scaled_weight(layer, out_channels, in_channels, channel, k),
                             scaled_weight(layer, out_channels, in_channels, channel, k + 1));
    }
};

struct HeadScalarWords {
    int64_t in_channels, out_channels, padded;
    ConvolutionWeights layer;

    __device__ uint32_t operator()(int64_t i) const
    {
        const int64_t channel = i % padded, line = i / padded;
        if (channel >= out_channels) return 0;
        if (line == 0) return ptx::float_word(layer.scale_of(channel));
        if (line == 1) return ptx::float_word(layer.bias_of(channel));
        return ptx::float_word(layer.weight[channel * in_channels + line - 2]);
    }
};

}  // namespace mnv2::cuda
