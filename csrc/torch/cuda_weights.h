// Lengths of packed weights on NVIDIA's GPUs, and the type that a length tells.
#pragma once

#include <array>
#include <cstdint>
#include <iterator>
#include <vector>

#include "core/layer_chain.h"
#include "cuda/launch.h"
#include "cuda/common/packed_length.h"
#include "torch/arguments.h"
#include "torch/cuda_launch.h"

namespace mnv2::ops {

// A stem and the block behind it, which one kernel computes where it can.
struct StemBlockParams {
    StemParams stem;
    InvertedResidualParams block;
};

inline StemBlockParams joined_layers(const std::vector<NetworkLayer>& layers)
{
    return {std::get<StemParams>(layers[0].params), std::get<InvertedResidualParams>(layers[1].params)};
}

inline int64_t length_of(const InvertedResidualParams& params, ScalarType type)
{
    return cuda::inverted_residual_bytes(params, type);
}

inline int64_t length_of(const StemParams& params, ScalarType type)
{
    return cuda::packed_length(cuda::stem_bytes(params, type), cuda::Format::stem, type);
}

// 0 where no kernel serves both.
inline int64_t length_of(const StemBlockParams& params, ScalarType type)
{
    const int64_t bytes = cuda::stem_block_bytes(params.stem, params.block, type);
    return bytes == 0 ? 0 : cuda::packed_length(bytes, cuda::Format::stem_block, type);
}

inline int64_t length_of(const HeadPoolParams& params, ScalarType type)
{
    return cuda::packed_length(cuda::head_pool_bytes(params, type), cuda::Format::head_pool, type);
}

inline int64_t length_of(const LinearParams& params, ScalarType type)
{
    const int64_t values = (params.in_features + 1) * params.out_features;
    return cuda::packed_length(values * scalar_bytes(type), cuda::Format::linear, type);
}

// Of weights packed for each of packed_types.
using PackedLengths = std::array<int64_t, std::size(packed_types)>;

template <typename Params>
PackedLengths lengths_of(const Params& params)
{
    PackedLengths lengths;
    for (size_t position = 0; position < lengths.size(); ++position)
        lengths[position] = length_of(params, packed_types[position]);
    return lengths;
}

// The type that weights were packed for, which their length tells.
inline ScalarType check_packed(const Argument& argument, const Tensor& x, const Tensor& packed, const PackedLengths& lengths)
{
    const ScalarType type = check_packed_length(argument, x, packed, lengths);
    if (!is_aligned(packed))
        refuse(argument, "data aligned to " + std::to_string(load_bytes) + " bytes", "a view at an odd offset");
    return type;
}

}  // namespace mnv2::ops
