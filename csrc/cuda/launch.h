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

// What launches ask of a GPU.
struct Gpu {
    int32_t sm_count;
    int32_t capability;    // 80 is 8.0
    int64_t shared_bytes;  // that a thread block can have
};

// Of every kernel below: packed weights serve tensors of the type that they were packed for, and those packed for float32
// all. Images are (N, H, W, C), contiguous, in device memory as everything else is, aligned to 16 bytes; only the stem takes
// any strides. Weights are float32. Launches go to stream; a failing one throws std::runtime_error.

// The inverted residual with the expanded tensor in registers (register_block.cuh), for float16 and bfloat16 and the blocks
// of MobileNetV2 1.0 with 16 to 32 input channels, activated by relu6 or relu. All three return false, or 0, for any other
// block; what serves a block does not depend on its image.

// Bytes of packed weights.
int64_t register_block_bytes(const InvertedResidualParams& params, ScalarType type);

bool pack_register_block(const InvertedResidualParams& params, ScalarType type, const ConvolutionWeights& expand,
                         const ConvolutionWeights& depthwise, const ConvolutionWeights& project, void* packed, Stream stream);

bool register_block(const InvertedResidualParams& params, ScalarType type, const void* x, const void* packed, void* y,
                    const Gpu& gpu, Stream stream);

// The inverted residual of any shape in float32 arithmetic (general_block.cuh). packed_type is x_type or float32: the weights
// are packed as they are given, in float, for either.

int64_t general_block_bytes(const InvertedResidualParams& params, ScalarType packed_type);

void pack_general_block(const InvertedResidualParams& params, ScalarType packed_type, const ConvolutionWeights& expand,
                        const ConvolutionWeights& depthwise, const ConvolutionWeights& project, void* packed, Stream stream);

void general_block(const InvertedResidualParams& params, ScalarType x_type, ScalarType packed_type, const void* x,
                   const void* packed, void* y, const Gpu& gpu, Stream stream);

}  // namespace mnv2::cuda
