// Lengths of packed weights on NVIDIA's GPUs, and the type that a length tells.
#pragma once

#include <cstdint>

#include "cuda/launch.h"
#include "cuda/packed_length.h"
#include "torch/arguments.h"
#include "torch/cuda_launch.h"

namespace mnv2::ops {

// A stem and the block behind it, which one kernel computes where it can.
struct StemBlockParams {
    StemParams stem;
    InvertedResidualParams block;
};

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

// The type that weights were packed for, which their length tells.
template <typename Params>
ScalarType check_packed(const Argument& argument, const Tensor& x, const Tensor& packed, const Params& params)
{
    Integers lengths;
    for (const ScalarType type : packed_types) lengths.push_back(length_of(params, type));
    const ScalarType type = check_packed_length(argument, x, packed, lengths);
    if (!is_aligned(packed))
        refuse(argument, "data aligned to " + std::to_string(load_bytes) + " bytes", "a view at an odd offset");
    return type;
}

}  // namespace mnv2::ops
