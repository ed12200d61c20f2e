// What a launch needs of torch and of a tensor's device.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <memory>

#include "cuda/launch.h"

namespace mnv2::ops {

// Makes the device of a tensor the current one while it lives, as launches go to the current device.
class CurrentDevice {
public:
    // Throws std::runtime_error, in the name of op, where the library has no code for the GPU.
    CurrentDevice(const char* op, const torch::stable::Tensor& tensor);
    ~CurrentDevice();

    const cuda::Gpu& gpu() const { return gpu_; }
    cuda::Stream stream() const { return stream_; }  // torch's current one of that device

private:
    struct Guard;
    std::unique_ptr<Guard> guard_;
    cuda::Gpu gpu_;
    cuda::Stream stream_;
};

}  // namespace mnv2::ops
