// Packs the weights of head_pool.
#pragma once

#include <cstdint>

#include "cuda/common/pack_words.cuh"
#include "cuda/common/sizes.h"
#include "cuda/head_pool/config.h"

namespace mnv2::cuda {

inline bool as_fragments(const HeadPoolParams& params, ScalarType packed_type)
{
    return packed_type != ScalarType::float32 && params.in_channels % 8 == 0 && params.out_channels % 8 == 0 &&
           curve_of(params.activation) == Curve::none;
}

inline int64_t group_count(const HeadPoolParams& params)
{
    return divide_up(params.out_channels, head_group_channels);
}

inline int64_t step_count(const HeadPoolParams& params)
{
    return divide_up(params.in_channels, head_step_depth);
}

// Scales are multiplied into the weights, which are rounded once.
template <class T>
struct HeadFragmentWords {
    LayerWeights layer;
    int64_t groups, steps;

    __device__ uint32_t operator()(int64_t i) const
    {
        const int64_t biases = groups * head_group_channels;
        if (i < biases) return ptx::float_word(layer.bias(i));
        i -= biases;
        const int64_t group = i / head_step_words / steps, step = i / head_step_words % steps;
        const int at = static_cast<int>(i % head_step_words), lane = at % head_fragment_words / 4;
        const int64_t channel = group * head_group_channels + at / head_fragment_words * 16 + lane / 4 * 2 + at % 2;
        const int64_t k = step * head_step_depth + lane % 4 * 4 + at % 4 / 2 * 2;
        return layer.depth_pair<T>(channel, k);
    }
};

struct HeadScalarWords {
    LayerWeights layer;
    int64_t padded;  // channels of a row

    __device__ uint32_t operator()(int64_t i) const { return ptx::float_word(layer.row(i / padded, i % padded)); }
};

}  // namespace mnv2::cuda
