#include "cuda/common/ptx.cuh"
#include "cuda/launch.h"

namespace mnv2::cuda {
namespace {

constexpr int32_t compiled_archs[] = {__CUDA_ARCH_LIST__};  // nvcc: 800,900

int32_t attribute(cudaDeviceAttr which, int32_t device)
{
    int value = 0;
    check_cuda(cudaDeviceGetAttribute(&value, which, device));
    return value;
}

__global__ void probe_kernel() {}  // compiled for the same architectures as all kernels

int32_t running_code()
{
    cudaFuncAttributes attributes;
    const cudaError_t error = cudaFuncGetAttributes(&attributes, probe_kernel);
    if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction) {
        cudaGetLastError();
        return 0;
    }
    check_cuda(error);
    return attributes.ptxVersion;
}

}  // namespace

int32_t mnv2_cuda_compiled_archs(int32_t* archs, int32_t capacity)
{
    int32_t count = 0;
    for (const int32_t arch : compiled_archs) {
        if (count < capacity) archs[count] = arch / 10;
        ++count;
    }
    return count;
}

Gpu query_gpu()
{
    int device = 0;
    check_cuda(cudaGetDevice(&device));
    return {attribute(cudaDevAttrMultiProcessorCount, device),
            attribute(cudaDevAttrComputeCapabilityMajor, device) * 10 + attribute(cudaDevAttrComputeCapabilityMinor, device),
            attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device), running_code()};
}

}  // namespace mnv2::cuda
