// Weights of int8 layers in the order in which the kernels read them (int8/format.h).
#pragma once

#include <cstdint>
#include <string>

#include "core/block.h"
#include "cpu/int8/format.h"

namespace mnv2::cpu::int8 {

// Contiguous arrays of one convolution: weight as torch lays it out, the others a number for each output channel.
struct ConvolutionWeights {
    const int8_t* weight;
    const float* multiplier;
    const float* bias;
    const float* shortcut = nullptr;  // the factor of the shortcut's values, where there is one
};

// Where the parts of a packed layer start, in bytes.
struct BlockOffsets {
    int64_t expand, depthwise, project, end;
};
BlockOffsets block_offsets(const InvertedResidualParams& params, const Format& format);

// Contiguous arrays of an image's channels: the byte that surrounds it, and the scale and zero point of its bytes.
struct ImageGrid {
    const uint8_t* pad;
    const float *scale, *zero_point;
};

// A stem's panels and a head's start behind its own numbers: those of the image's channels, the pool's factor.
constexpr int64_t most_image_channels = 64;
constexpr int64_t stem_factors = most_image_channels;
constexpr int64_t stem_zero_points = stem_factors + most_image_channels * float_bytes;
constexpr int64_t stem_panels = stem_zero_points + most_image_channels * float_bytes;
constexpr int64_t head_panels = 64;

int64_t packed_bytes(const InvertedResidualParams& params, const Format& format);
int64_t packed_bytes(const StemParams& params, const Format& format);
int64_t packed_bytes(const HeadPoolParams& params, const Format& format);
int64_t packed_bytes(const LinearParams& params, const Format& format);

// packed holds packed_bytes(params, format) bytes. expand is ignored where params.has_expand is false. pool: what turns the
// mean of a channel's pixels into a byte.
void pack_block(const InvertedResidualParams& params, const ConvolutionWeights& expand, const ConvolutionWeights& depthwise,
                const ConvolutionWeights& project, const Format& format, void* packed);
void pack_stem(const StemParams& params, const ConvolutionWeights& weights, const ImageGrid& image, const Format& format,
               void* packed);
void pack_head_pool(const HeadPoolParams& params, const ConvolutionWeights& weights, float pool, const Format& format,
                    void* packed);
void pack_linear(const LinearParams& params, const ConvolutionWeights& weights, const Format& format, void* packed);

// Whether no input makes a sum or a result leave 32 bits, which kernels convert to before they clamp. depth: weights of a
// channel.
bool stays_in_int32(const ConvolutionWeights& weights, int64_t depth, int64_t channels);

}  // namespace mnv2::cpu::int8
