// Packing on the device: capturable in a graph, without a copy to the host. A format is a function of the index of a 32-bit
// word, which holds a float or two 16-bit numbers.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/packing.h"
#include "cuda/common/ptx.cuh"
#include "cuda/common/sizes.h"
#include "cuda/launch.h"

namespace mnv2::cuda {

// A weight with its scale, 0 beyond the last channel or depth.
__device__ inline float scaled_weight(const ConvolutionWeights& layer, int64_t channels, int64_t depth, int64_t channel,
                                      int64_t k)
{
    const bool exists = channel < channels && k < depth;
    return exists ? layer.weight[channel * depth + k] * layer.scale_of(channel) : 0.0f;
}

template <class WordOf>
__global__ void pack_words_kernel(WordOf word_of, int64_t words, uint32_t* packed)
{
    const int64_t threads = static_cast<int64_t>(gridDim.x) * blockDim.x;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < words; i += threads)
        packed[i] = word_of(i);
}

// Sets word i of packed to word_of(i), on the device.
template <class WordOf>
void pack_words(const WordOf& word_of, int64_t words, void* packed, Stream stream)
{
    constexpr int64_t threads = 256, most_blocks = 512;
    const auto blocks = static_cast<unsigned>(std::min(most_blocks, divide_up(words, threads)));
    if (blocks == 0) return;
    launch_kernel(pack_words_kernel<WordOf>, dim3(blocks), dim3(threads), 0, stream, word_of, words,
                  static_cast<uint32_t*>(packed));
}

}  // namespace mnv2::cuda
