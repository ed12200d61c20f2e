// Memory that kernels can reach: a GPU's where the tests are compiled by nvcc, else the host's.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <stdexcept>
#include <vector>

#include "core/packing.h"
#include "reference.h"

#ifdef __CUDACC__
#include <cuda_runtime.h>
#endif

namespace mnv2::test {

#ifdef __CUDACC__

inline void check_cuda(cudaError_t error)
{
    if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}

inline void set_schedule(uint64_t) {}

inline bool has_clusters()
{
    constexpr int least_major = 9;
    int major = 0;
    check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
    return major >= least_major;
}

#else

inline bool has_clusters()
{
    return true;
}

inline void set_schedule(uint64_t seed)
{
    emu::options.seed = seed;
}

#endif

class DeviceBuffer {
public:
    // Filled with a byte that no result has: NaN in every dtype.
    explicit DeviceBuffer(size_t bytes) : DeviceBuffer(std::vector<uint8_t>(bytes, 0xff)) {}

#ifdef __CUDACC__
    explicit DeviceBuffer(const std::vector<uint8_t>& from) : bytes_(from.size())
    {
        check_cuda(cudaMalloc(&data_, bytes_));
        check_cuda(cudaMemcpy(data_, from.data(), bytes_, cudaMemcpyHostToDevice));
    }
    ~DeviceBuffer() { cudaFree(data_); }
    DeviceBuffer(const DeviceBuffer&) = delete;
    DeviceBuffer& operator=(const DeviceBuffer&) = delete;

    void* data() const { return data_; }
    std::vector<uint8_t> bytes() const
    {
        std::vector<uint8_t> to(bytes_);
        check_cuda(cudaMemcpy(to.data(), data_, bytes_, cudaMemcpyDeviceToHost));
        return to;
    }

private:
    void* data_ = nullptr;
    size_t bytes_;
#else
    // The allocation has exactly this size, so that AddressSanitizer sees accesses beyond its end.
    explicit DeviceBuffer(const std::vector<uint8_t>& from)
        : data_(static_cast<uint8_t*>(::operator new(from.size(), alignment))), bytes_(from.size())
    {
        std::copy(from.begin(), from.end(), data_);  // data() of an empty vector may be null
    }
    ~DeviceBuffer() { ::operator delete(data_, alignment); }
    DeviceBuffer(const DeviceBuffer&) = delete;
    DeviceBuffer& operator=(const DeviceBuffer&) = delete;

    void* data() const { return data_; }
    std::vector<uint8_t> bytes() const { return {data_, data_ + bytes_}; }

private:
    static constexpr std::align_val_t alignment{256};  // cudaMalloc's
    uint8_t* data_;
    size_t bytes_;
#endif
};

// The tensors of a convolution in memory that kernels can reach.
class DeviceConvolution {
public:
    explicit DeviceConvolution(const Convolution& layer)
        : weight_(bytes_of(layer.weight)),
          scale_(bytes_of(layer.scale)),
          bias_(bytes_of(layer.bias)),
          has_scale_(!layer.scale.empty()),
          has_bias_(!layer.bias.empty())
    {
    }

    ConvolutionWeights view() const
    {
        const auto floats = [](const DeviceBuffer& buffer) { return static_cast<const float*>(buffer.data()); };
        return {floats(weight_), has_scale_ ? floats(scale_) : nullptr, has_bias_ ? floats(bias_) : nullptr};
    }

private:
    static std::vector<uint8_t> bytes_of(const std::vector<float>& values)
    {
        std::vector<uint8_t> bytes(values.size() * sizeof(float));
        if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
        return bytes;
    }

    DeviceBuffer weight_, scale_, bias_;
    bool has_scale_, has_bias_;
};

}  // namespace mnv2::test
