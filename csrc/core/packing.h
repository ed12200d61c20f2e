// THE packed format: weights in the order in which a microkernel reads them, behind a header that says whose they are.
//
//   header, padded to header_bytes
//   pointwise and dense layers: panels of panel_vectors * vector_width output channels, the last one as few vectors as it
//       needs; a panel is scale[NR], bias[NR], weight[K][NR]. A dense 3x3 layer has K = 9 * in_channels in the order
//       (channel, ky, kx).
//   depthwise layers: blocks of vector_width channels; a block is scale[V], bias[V], weight[9][V].
//
// Values are float32 whatever the tensors' dtype: the arithmetic is. Channels that only fill a vector are zero.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/block.h"

namespace mnv2 {

enum class Isa : int32_t { scalar, neon, avx2, avx512 };

// What a microkernel family asks of its weights.
struct PackLayout {
    Isa isa;
    int32_t vector_width;
    int32_t panel_vectors;
};

// The same for every family so far, so that a header need not tell.
constexpr int32_t common_panel_vectors = 2;

// Contiguous float32 arrays of one convolution: weight as torch lays it out, scale and bias per output channel. A null
// scale is 1, a null bias 0.
struct ConvolutionWeights {
    const float* weight = nullptr;
    const float* scale = nullptr;
    const float* bias = nullptr;

    float scale_of(int64_t channel) const { return scale ? scale[channel] : 1.0f; }
    float bias_of(int64_t channel) const { return bias ? bias[channel] : 0.0f; }
};

int64_t packed_bytes(const InvertedResidualParams& params, const PackLayout& layout);
int64_t packed_bytes(const StemParams& params, const PackLayout& layout);
int64_t packed_bytes(const HeadPoolParams& params, const PackLayout& layout);
int64_t packed_bytes(const LinearParams& params, const PackLayout& layout);

// expand is ignored where params.has_expand is false. packed holds packed_bytes(params, layout) bytes.
void pack_block(const InvertedResidualParams& params, const ConvolutionWeights& expand, const ConvolutionWeights& depthwise,
                const ConvolutionWeights& project, const PackLayout& layout, void* packed);
void pack_stem(const StemParams& params, const ConvolutionWeights& weights, const PackLayout& layout, void* packed);
void pack_head_pool(const HeadPoolParams& params, const ConvolutionWeights& weights, const PackLayout& layout, void* packed);
void pack_linear(const LinearParams& params, const ConvolutionWeights& weights, const PackLayout& layout, void* packed);

// Where each layer's weights start, in floats from the end of the header.
struct BlockOffsets {
    int64_t expand, depthwise, project;
};

BlockOffsets block_offsets(const InvertedResidualParams& params, const PackLayout& layout);

constexpr int64_t header_bytes = 64;

inline const float* packed_values(const void* packed)
{
    return reinterpret_cast<const float*>(static_cast<const char*>(packed) + header_bytes);
}

// What a packed buffer was made for; call only on a buffer that packed_mismatch or read_network accepts.
Isa packed_isa(const void* packed);
PackLayout packed_layout(const void* packed);

// Why these bytes cannot serve params, in the form "expected ..., got ..."; empty if they can.
std::string packed_mismatch(const void* packed, int64_t bytes, const InvertedResidualParams& params);
std::string packed_mismatch(const void* packed, int64_t bytes, const StemParams& params);
std::string packed_mismatch(const void* packed, int64_t bytes, const HeadPoolParams& params);
std::string packed_mismatch(const void* packed, int64_t bytes, const LinearParams& params);

}  // namespace mnv2
