// What launches on NVIDIA's GPUs ask of tensors, and the name that their errors get.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "cuda/launch.h"
#include "torch/cuda/device.h"

namespace mnv2::ops {

constexpr uintptr_t load_bytes = 16;  // what the kernels load at once

inline bool is_aligned(const torch::stable::Tensor& tensor)
{
    return reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % load_bytes == 0;
}

// x as (N, H, W, C) that starts where the kernels can load from.
inline torch::stable::Tensor channels_last(const torch::stable::Tensor& x)
{
    const torch::stable::Tensor contiguous = torch::stable::contiguous(x, torch::headeronly::MemoryFormat::ChannelsLast);
    return is_aligned(contiguous) ? contiguous : torch::stable::clone(contiguous);
}

// Launches in the name of an operator, on the tensor's device and torch's current stream of it.
template <typename Launch>
void launch(const char* op, const torch::stable::Tensor& tensor, const Launch& kernel)
{
    const CurrentDevice device(op, tensor);
    try {
        kernel(device.gpu(), device.stream());
    } catch (const std::runtime_error& error) {
        throw std::runtime_error(std::string("mnv2::") + op + ": " + error.what());
    }
}

}  // namespace mnv2::ops
