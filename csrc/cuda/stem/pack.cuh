// Packs the stem's weights.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "cuda/common/pack_words.cuh"
#include "cuda/common/stem_tile.cuh"

namespace mnv2::cuda {

// Weights as mma's fragments; a lane stores eight channels at once.
inline bool as_fragments(const StemParams& params, ScalarType packed_type)
{
    return packed_type != ScalarType::float32 && params.in_channels == stem_channels && params.out_channels % 8 == 0;
}

inline int64_t group_count(const StemParams& params)
{
    return divide_up(params.out_channels, stem_group_channels);
}

inline int64_t group_words(const StemParams& params, ScalarType packed_type)
{
    if (as_fragments(params, packed_type)) return StemFragments::words;
    return (params.in_channels * kernel_taps + 2) * stem_group_channels;
}

template <class T>
struct StemFragmentWords {
    int64_t out_channels;
    ConvolutionWeights layer;

    __device__ uint32_t operator()(int64_t i) const
    {
        const int64_t first = i / StemFragments::words * stem_group_channels;
        return stem_fragment_word<T>(layer, out_channels, first, static_cast<int>(i % StemFragments::words));
    }
};

struct StemScalarWords {
    int64_t out_channels, depth;
    ConvolutionWeights layer;

    __device__ uint32_t operator()(int64_t i) const
    {
        const int64_t group_words = (depth + 2) * stem_group_channels;
        const int64_t channel = i / group_words * stem_group_channels + i % stem_group_channels;
        const int64_t line = i % group_words / stem_group_channels;
        if (channel >= out_channels) return 0;
        if (line == 0) return ptx::float_word(layer.scale_of(channel));
        if (line == 1) return ptx::float_word(layer.bias_of(channel));
        return ptx::float_word(layer.weight[channel * depth + line - 2]);
    }
};

}  // namespace mnv2::cuda
