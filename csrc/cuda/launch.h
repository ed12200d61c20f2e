// Entry points of the CUDA path: plain data and a stream, no torch and no CUDA header.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "core/packing.h"

struct CUstream_st;

namespace mnv2::cuda {

using Stream = CUstream_st*;  // cudaStream_t

// Writes the first capacity compiled architectures (80 is compute capability 8.0) to archs and returns how many there are.
extern "C" __attribute__((visibility("default"))) int32_t mnv2_cuda_compiled_archs(int32_t* archs, int32_t capacity);

// The inverted residual with the expanded tensor in registers (register_block.cuh), for float16 and bfloat16 and the blocks
// of MobileNetV2 1.0 with 16 to 32 input channels, activated by relu6 or relu. All three return false, or 0, for any other
// block.

// Bytes of packed weights.
int64_t register_block_bytes(const InvertedResidualParams& params, ScalarType type);

// Packs on the host; scales are multiplied into the weights, which are rounded once.
bool pack_register_block(const InvertedResidualParams& params, ScalarType type, const ConvolutionWeights& expand,
                         const ConvolutionWeights& depthwise, const ConvolutionWeights& project, void* packed);

// x is (N, H, W, in_channels), y (N, H', W', out_channels), both contiguous and in device memory, as are packed's bytes,
// aligned to 16. Launches on stream, for a GPU of sm_count multiprocessors; throws std::runtime_error where that fails.
bool register_block(const InvertedResidualParams& params, ScalarType type, const void* x, const void* packed, void* y,
                    int sm_count, Stream stream);

}  // namespace mnv2::cuda
