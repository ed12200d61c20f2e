// Results and packed weights, on the device of the tensors they come from.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "torch/arguments.h"

namespace mnv2::ops {

inline Tensor allocate(const char* op, const Integers& shape, torch::headeronly::ScalarType dtype, const Tensor& like,
                       torch::headeronly::MemoryFormat format = torch::headeronly::MemoryFormat::Contiguous)
{
    try {
        return torch::stable::empty(shape, dtype, std::nullopt, like.device(), std::nullopt, format);
    } catch (const std::runtime_error&) {
        throw std::runtime_error(std::string("mnv2::") + op + ": cannot allocate a result of shape " + tuple_text(shape));
    }
}

inline Tensor allocate_image(const char* op, const Tensor& x, int64_t channels, int64_t height, int64_t width)
{
    return allocate(op, {x.size(0), channels, height, width}, x.scalar_type(), x,
                    torch::headeronly::MemoryFormat::ChannelsLast);
}

inline Tensor allocate_packed(const char* op, int64_t bytes, const Tensor& weight)
{
    return allocate(op, {bytes}, torch::headeronly::ScalarType::Byte, weight);
}

}  // namespace mnv2::ops
