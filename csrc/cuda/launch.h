// Entry points of the CUDA path: plain data and a stream, no torch and no CUDA header.
#pragma once

#include <cstdint>
#include <functional>

#include "core/block.h"
#include "core/packing.h"
#include "cuda/gpu.h"
#include "cuda/stream.h"

namespace mnv2::cuda {

// Writes the first capacity compiled architectures (80 is compute capability 8.0) to archs and returns how many there are.
extern "C" __attribute__((visibility("default"))) int32_t mnv2_cuda_compiled_archs(int32_t* archs, int32_t capacity);

// The current device.
Gpu query_gpu();

// Packed weights serve tensors of the type that they were packed for; weights packed for float32 serve tensors of every type.
// Images are (N, H, W, C), contiguous, in device memory as everything else is, aligned to 16 bytes; only the stem takes any
// strides. Weights are float32. Launches go to stream; a launch that fails throws std::runtime_error.

// A layer's launch for images of one size and type on one GPU, whose kernel and tiles have been chosen: calls only fill in
// pointers. Any threads may call it at once. Kernels other than the stem's take x as contiguous and read its data alone.
// scratch: memory that nothing else uses meanwhile, in which launches that are several kernels leave what the next one reads.
using Launch = std::function<void(const InputView& x, const void* packed, void* y, void* scratch, Stream stream)>;

struct PlannedBlock {
    Launch launch;
    int64_t scratch_bytes = 0;
};

// The inverted residual by the kernel that select_block chooses. The number of bytes tells the format of packed weights.
int64_t inverted_residual_bytes(const InvertedResidualParams& params, ScalarType packed_type);
void pack_inverted_residual(const InvertedResidualParams& params, ScalarType packed_type, const BlockConvolutions& weights,
                            void* packed, Stream stream);
PlannedBlock plan_inverted_residual(const InvertedResidualParams& params, ScalarType x_type, ScalarType packed_type,
                                    const Gpu& gpu);

// The stem: any channels, strides and types; y has x's type. Weights packed for float16 or bfloat16 are rounded
// to it with their scales, and multiplied on tensor cores, where the input has three channels and the output a multiple of
// eight; all others are float32.

int64_t stem_bytes(const StemParams& params, ScalarType packed_type);

void pack_stem(const StemParams& params, ScalarType packed_type, const ConvolutionWeights& weights, void* packed,
               Stream stream);

void stem(const StemParams& params, ScalarType packed_type, const InputView& x, const void* packed, void* y, const Gpu& gpu,
          Stream stream);

// The head with its pool: any channels, image sizes and types; y is (N, out_channels) and has x's type. Weights
// packed for float16 or bfloat16 are rounded to it with their scales, and multiplied on tensor cores, where both numbers of
// channels are multiples of eight; all others are float32.

int64_t head_pool_bytes(const HeadPoolParams& params, ScalarType packed_type);

void pack_head_pool(const HeadPoolParams& params, ScalarType packed_type, const ConvolutionWeights& weights, void* packed,
                    Stream stream);

void head_pool(const HeadPoolParams& params, ScalarType x_type, ScalarType packed_type, const void* x, const void* packed,
               void* y, const Gpu& gpu, Stream stream);

// The stem and block 0 in one kernel (stem_block), for float16 and bfloat16: 3 -> 32 channels, then a depthwise
// convolution of stride 1 without expand, and 32 -> 16 channels; activated by relu6, the depthwise one by relu6 or relu. All
// three return false, or 0, for anything else, whatever the image. The image of `block` is the stem's output.

int64_t stem_block_bytes(const StemParams& stem, const InvertedResidualParams& block, ScalarType type);

bool pack_stem_block(const StemParams& stem, const InvertedResidualParams& block, ScalarType type,
                     const ConvolutionWeights& stem_weights, const ConvolutionWeights& depthwise,
                     const ConvolutionWeights& project, void* packed, Stream stream);

// The weights are packed for x's type.
bool stem_block(const StemParams& stem, const InvertedResidualParams& block, const InputView& x, const void* packed, void* y,
                const Gpu& gpu, Stream stream);

}  // namespace mnv2::cuda
