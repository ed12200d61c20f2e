// Memory that kernels can reach: a GPU's where the tests are compiled by nvcc, else the host's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <vector>

#ifdef __CUDACC__
#include <cuda_runtime.h>
#endif

namespace mnv2::test {

#ifdef __CUDACC__

inline void check_cuda(cudaError_t error)
{
    if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}

// Starts as a copy of host bytes.
class DeviceBuffer {
public:
    explicit DeviceBuffer(const void* from, size_t bytes) : bytes_(bytes)
    {
        check_cuda(cudaMalloc(&data_, bytes));
        check_cuda(cudaMemcpy(data_, from, bytes, cudaMemcpyHostToDevice));
    }
    ~DeviceBuffer() { cudaFree(data_); }
    DeviceBuffer(const DeviceBuffer&) = delete;
    DeviceBuffer& operator=(const DeviceBuffer&) = delete;

    void* data() const { return data_; }
    void copy_to(void* to) const { check_cuda(cudaMemcpy(to, data_, bytes_, cudaMemcpyDeviceToHost)); }

private:
    void* data_ = nullptr;
    size_t bytes_;
};

inline void set_schedule(uint64_t) {}

#else

class DeviceBuffer {
public:
    explicit DeviceBuffer(const void* from, size_t bytes) : units_(bytes / sizeof(Unit) + 1), bytes_(bytes)
    {
        std::memcpy(units_.data(), from, bytes);
    }

    void* data() { return units_.data(); }
    void copy_to(void* to) const { std::memcpy(to, units_.data(), bytes_); }

private:
    struct alignas(16) Unit {  // what cp.async copies
        char bytes[16];
    };
    std::vector<Unit> units_;
    size_t bytes_;
};

inline void set_schedule(uint64_t seed)
{
    emu::options.seed = seed;
}

#endif

}  // namespace mnv2::test
