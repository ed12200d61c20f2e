// Packing on the device: capturable in a graph, without a copy to the host. A format is a function of the index of a 32-bit
// word, which holds a float or two 16-bit numbers.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/packing.h"
#include "cuda/common/ptx.cuh"
#include "cuda/common/sizes.h"
#include "cuda/stream.h"

namespace mnv2::cuda {

// A layer's weights as packing reads them: 0 beyond the last channel or depth.
struct LayerWeights {
    ConvolutionWeights layer;
    int64_t channels, depth;

    __device__ float bias(int64_t channel) const { return channel < channels ? layer.bias_of(channel) : 0.0f; }

    __device__ float weight(int64_t channel, int64_t k) const
    {
        return channel < channels && k < depth ? layer.weight[channel * depth + k] : 0.0f;
    }

    // A row of a layer that is packed as floats: its scales, its biases, then the weights of each depth.
    __device__ float row(int64_t index, int64_t channel) const
    {
        if (index == 0) return channel < channels ? layer.scale_of(channel) : 0.0f;
        return index == 1 ? bias(channel) : weight(channel, index - 2);
    }

    // A weight with its scale.
    __device__ float scaled(int64_t channel, int64_t k) const
    {
        return channel < channels && k < depth ? layer.weight[channel * depth + k] * layer.scale_of(channel) : 0.0f;
    }

    // The weights of two depths, rounded once.
    template <class T>
    __device__ uint32_t depth_pair(int64_t channel, int64_t k) const
    {
        return ptx::pack2<T>(scaled(channel, k), scaled(channel, k + 1));
    }

    // One tap of two channels.
    template <class T>
    __device__ uint32_t channel_pair(int64_t channel, int64_t tap) const
    {
        return ptx::pack2<T>(scaled(channel, tap), scaled(channel + 1, tap));
    }

    template <class T>
    __device__ uint32_t bias_pair(int64_t channel) const
    {
        return ptx::pack2<T>(bias(channel), bias(channel + 1));
    }
};

// The three layers of a block.
struct BlockWeights {
    LayerWeights expand, depthwise, project;

    BlockWeights(const InvertedResidualParams& params, const ConvolutionWeights& expand, const ConvolutionWeights& depthwise,
                 const ConvolutionWeights& project)
        : expand{expand, params.expanded_channels, params.in_channels},
          depthwise{depthwise, params.expanded_channels, params.taps()},
          project{project, params.out_channels, params.expanded_channels}
    {
    }
};

template <class WordOf>
struct PackArguments {
    WordOf word_of;
    int64_t words;
    uint32_t* packed;
};

template <class WordOf>
__global__ void pack_words_kernel(PackArguments<WordOf> p)
{
    const int64_t threads = static_cast<int64_t>(gridDim.x) * blockDim.x;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < p.words; i += threads)
        p.packed[i] = p.word_of(i);
}

// Fills `bytes` bytes on the device: word i is word_of(i).
template <class WordOf>
void pack_words(const WordOf& word_of, int64_t bytes, void* packed, Stream stream)
{
    constexpr int64_t threads = 256, most_blocks = 512, word_bytes = sizeof(uint32_t);
    const int64_t words = bytes / word_bytes;
    const auto blocks = static_cast<unsigned>(std::min(most_blocks, divide_up(words, threads)));
    if (blocks == 0) return;
    launch_kernel(pack_words_kernel<WordOf>, dim3(blocks), dim3(threads), 0, stream,
                  PackArguments<WordOf>{word_of, words, static_cast<uint32_t*>(packed)});
}

}  // namespace mnv2::cuda
