// Entry points of the CUDA path: plain data and a stream, no torch and no CUDA header.
#pragma once

#include <cstdint>

struct CUstream_st;

namespace mnv2::cuda {

using Stream = CUstream_st*;  // cudaStream_t

// Writes the first capacity compiled architectures (80 is compute capability 8.0) to archs and returns how many there are.
extern "C" __attribute__((visibility("default"))) int32_t mnv2_cuda_compiled_archs(int32_t* archs, int32_t capacity);

}  // namespace mnv2::cuda
