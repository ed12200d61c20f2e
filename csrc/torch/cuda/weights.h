// Lengths of packed weights on NVIDIA's GPUs, and the type that a length tells.
#pragma once

#include <array>
#include <cstdint>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "cuda/launch.h"
#include "torch/arguments.h"
#include "torch/cuda/launch.h"
#include "torch/known_layers.h"

namespace mnv2::ops {

// Where a chain's packed weights lie in one buffer. With joined the first two layers, a stem and a block, are computed by one
// kernel and packed together.
struct ChainFormat {
    bool joined;
    std::vector<int64_t> offsets;  // each layer's; joined ones have the same
    int64_t bytes;                 // tells the type that they are packed for
};

// A chain and its formats for each of packed_types, made once for each text.
struct CudaChain {
    Layers layers;  // without an image's size
    std::array<ChainFormat, std::size(packed_types)> formats;

    const ChainFormat& format(ScalarType type) const;
    std::array<int64_t, std::size(packed_types)> lengths() const;
};

std::shared_ptr<const CudaChain> known_chain(const char* op, const std::string& text);

// The same of layers that no text describes.
CudaChain chain_of(const Layers& layers);

// The type that weights were packed for, which their length tells.
inline ScalarType check_packed(const Argument& argument, const Tensor& x, const Tensor& packed, const CudaChain& chain)
{
    const ScalarType type = check_packed_length(argument, x, packed, chain.lengths());
    if (!is_aligned(packed))
        refuse(argument, "data aligned to " + std::to_string(load_bytes) + " bytes", "a view at an odd offset");
    return type;
}

}  // namespace mnv2::ops
