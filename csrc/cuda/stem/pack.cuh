// Packs the stem's weights.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "cuda/common/pack_words.cuh"
#include "cuda/common/stem_tile.cuh"

namespace mnv2::cuda {

// Weights as mma's fragments; a lane stores eight channels at once, clamped as pairs.
inline bool as_fragments(const StemParams& params, ScalarType packed_type)
{
    return packed_type != ScalarType::float32 && params.in_channels == stem_channels && params.out_channels % 8 == 0 &&
           params.kernel == kernel_size && curve_of(params.activation) == Curve::none;
}

inline int64_t group_count(const StemParams& params)
{
    return divide_up(params.out_channels, stem_group_channels);
}

inline int64_t group_words(const StemParams& params, ScalarType packed_type)
{
    if (as_fragments(params, packed_type)) return StemFragments::words;
    return (params.in_channels * params.taps() + 2) * stem_group_channels;
}

template <class T>
struct StemFragmentWords {
    LayerWeights layer;

    __device__ uint32_t operator()(int64_t i) const
    {
        const int64_t first = i / StemFragments::words * stem_group_channels;
        return stem_fragment_word<T>(layer, first, static_cast<int>(i % StemFragments::words));
    }
};

struct StemScalarWords {
    LayerWeights layer;

    __device__ uint32_t operator()(int64_t i) const
    {
        const int64_t group_words = (layer.depth + 2) * stem_group_channels;
        const int64_t channel = i / group_words * stem_group_channels + i % stem_group_channels;
        return ptx::float_word(layer.row(i % group_words / stem_group_channels, channel));
    }
};

}  // namespace mnv2::cuda
