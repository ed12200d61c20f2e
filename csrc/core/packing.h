// THE packed format: weights in the order in which a microkernel reads them, behind a header that says whose they are.
//
//   header, padded to header_bytes
//   pointwise layers and stems: panels of panel_vectors * vector_width output channels, the last one as few vectors as it
//       needs; a panel is scale[NR], bias[NR], weight[K][NR]. A stem has K = taps * in_channels in the order
//       (channel, ky, kx).
//       Where sixteen lanes multiply float32, a pointwise layer's last panel whose last vector would be half empty holds two
//       depths of each channel side by side, as weight[K / 2][NR][2]: K rounded up to 2, NR to half a vector, but scale and
//       bias to a whole one.
//   a stem that reads bytes: behind its panels table[in_channels][256], what each byte stands for, rounded to bytes_as' type.
//   depthwise layers: for each vector of V = vector_width channels scale[V], bias[V], weight[taps][V].
//   a gate, behind the project: squeeze, excite, two pointwise layers.
//
// Values are float32 whatever the tensors' dtype, where the arithmetic is. Instruction sets that multiply 16-bit numbers hold
// the weights of their pointwise layers in that type, K rounded up to vector_width. float16: weight[K][NR]. bfloat16 on ARM:
// weight[K / 4][NR][4], for AVX-512: weight[K / 2][NR][2], for matrix tiles: weight[K / 32][2][16][16][2], which is two tiles
// of sixteen channels for 32 depths, whose rows are pairs of depths. Channels and depths that only fill a vector or a tile are
// zero.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/block.h"
#include "core/isa.h"
#include "core/sizes.h"
#include "core/sums.h"

namespace mnv2 {

// What an instruction set asks of its weights.
struct PackLayout {
    Isa isa;
    int32_t vector_width;
    int32_t panel_vectors;
    ScalarType stored = ScalarType::float32;  // what pointwise layers multiply: their weights and blocked inputs
};

// Contiguous float32 arrays of one convolution: weight as torch lays it out, scale and bias per output channel. A null
// scale is 1, a null bias 0.
struct ConvolutionWeights {
    const float* weight = nullptr;
    const float* scale = nullptr;
    const float* bias = nullptr;

    constexpr float scale_of(int64_t channel) const { return scale ? scale[channel] : 1.0f; }
    constexpr float bias_of(int64_t channel) const { return bias ? bias[channel] : 0.0f; }
};

int64_t packed_bytes(const InvertedResidualParams& params, const PackLayout& layout);
int64_t packed_bytes(const StemParams& params, const PackLayout& layout);
int64_t packed_bytes(const HeadPoolParams& params, const PackLayout& layout);
int64_t packed_bytes(const LinearParams& params, const PackLayout& layout);

// expand is ignored where params.has_expand is false, the gate's where it has none. packed holds packed_bytes(params, layout)
// bytes.
struct BlockConvolutions {
    ConvolutionWeights expand, depthwise, project, squeeze, excite;
};

void pack_block(const InvertedResidualParams& params, const BlockConvolutions& weights, const PackLayout& layout, void* packed);
// table: [in_channels][byte_values], where params.bytes_as asks for one.
void pack_stem(const StemParams& params, const ConvolutionWeights& weights, const PackLayout& layout, void* packed,
               const float* table = nullptr);
void pack_head_pool(const HeadPoolParams& params, const ConvolutionWeights& weights, const PackLayout& layout, void* packed);
void pack_linear(const LinearParams& params, const ConvolutionWeights& weights, const PackLayout& layout, void* packed);

// Floats that a channel takes in the panel of a pointwise layer.
constexpr int64_t pointwise_column_floats(int64_t depth, const PackLayout& layout)
{
    if (layout.stored == ScalarType::float32) return depth + 2;
    return round_up(depth, layout.vector_width) * scalar_bytes(layout.stored) / static_cast<int64_t>(sizeof(float)) + 2;
}

// Whether a panel with this number of channels holds two depths side by side. Not in narrower vectors: MobileNet's channels
// are multiples of eight.
constexpr bool has_two_depths(int64_t channels, const PackLayout& layout)
{
    constexpr int32_t lanes = 16;
    return layout.stored == ScalarType::float32 && layout.vector_width == lanes && channels % lanes > 0 &&
           channels % lanes <= lanes / 2;
}

// Floats of a pointwise layer's panel with this number of channels.
constexpr int64_t panel_floats(int64_t depth, int64_t channels, const PackLayout& layout)
{
    const int64_t width = round_up(channels, layout.vector_width);
    if (!has_two_depths(channels, layout)) return width * pointwise_column_floats(depth, layout);
    return 2 * width + round_up(depth, 2) * round_up(channels, layout.vector_width / 2);
}

// Where each layer's weights start, in floats from the end of the header.
struct BlockOffsets {
    int64_t expand, depthwise, project, squeeze, excite, end;
};

BlockOffsets block_offsets(const InvertedResidualParams& params, const PackLayout& layout);

// Where a stem's table starts, in floats from the end of the header.
int64_t table_offset(const StemParams& params, const PackLayout& layout);

constexpr int64_t header_bytes = 64;

inline const float* packed_values(const void* packed)
{
    return reinterpret_cast<const float*>(static_cast<const char*>(packed) + header_bytes);
}

// What a packed buffer was made for; call only on a buffer that packed_mismatch or read_network accepts.
Isa packed_isa(const void* packed);
PackLayout packed_layout(const void* packed);

// Why these bytes cannot serve params, in the form "expected ..., got ..."; empty if they can.
template <class Params>
std::string packed_mismatch(const void* packed, int64_t bytes, const Params& params);

}  // namespace mnv2
