// THE format of int8: how activations lie in a thread's scratch and weights in a packed layer.
//
//   activations: uint8 in blocks of 64 channels, [blocks][pixels][width]. Inside a layer the last block is 16, 32 or 64
//       channels wide, as panels are. Between layers it is only a multiple of 8 wide, or 24 channels would be fetched as 32;
//       behind the last pixel there is room to load a panel's width from it.
//   pointwise and linear layers: a panel for each block of output channels: M[width], B[width], R[width] as float32, then for
//       each `group` channels of it the weights [steps][group][depths], int8 or 16-bit words. A step is the depths that one
//       instruction adds up. Where an instruction multiplies signed bytes alone, kernels subtract 128 from activations, and in
//       front of the weights stands start[width], int32: 128 times the sum of a channel's weights. Steps of sixteen depths
//       subtract 127 from the second half of them, and from a depthwise window's second row.
//   stem: the image's pixels lie in rows of 4 * pixel_words bytes a pixel. Panels as above, weights [3 ky][3 kx][depths of a
//       pixel] in the place of the depths; a step is one word of a pixel, or part of one. In front of them, for each of up to
//       64 channels of the image, the byte that surrounds it, and as float32 the factor and the zero point of an image of
//       floats.
//   head: 64 bytes that hold the pool's factor, float32, then panels.
//   depthwise layers: for each block M[width], B[width] and, if need be, start[width], then the weights, int8 [3 kx][width][4
//   ky], or in 16-bit
//       words for each 16 channels [3 kx][2][16][2 ky]; ky = 3 is 0.
//
// M, B and R are the factors of y = fma(float(sum), M, B), with a shortcut y = fma(float(q), R, y), q = clamp(rint(y), 0, 255).
// An image's float x becomes q = clamp(rint(fma(x, factor, zero point)), 0, 255), and NaN 0.
// A pooled q is clamp(rint(float(sum) * (pool / float(pixels))), 0, 255), logits are y. What a channel or a depth that only
// fills a block holds is zero, so its results are zero, too.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "core/sizes.h"

namespace mnv2::cpu::int8 {

constexpr int64_t block_channels = 64;
// These numbers stand in packed headers.
enum class Isa : int32_t { scalar, avx512_vnni, avx2, neon_dotprod, neon, neon_i8mm, avx_vnni, amx_int8 };

// What an instruction set asks of its weights. Bytes are narrowed from vectors of 32-bit sums, which joins the lanes of
// neighbouring vectors: channels stand in vectors so that the joined bytes are in order.
struct Format {
    Isa isa;
    const char* name;       // in MNV2_FORCE_ISA
    int32_t vector_lanes;   // 32-bit sums in a vector; 1: channels are in order
    int32_t group_vectors;  // vectors that are narrowed together, where a block has as many
    int32_t group;          // channels whose weights of a step stand together, where a block has as many
    int32_t depths;         // of a step
    int32_t weight_bytes;
    bool has_starts = false;  // whether kernels subtract 128, or 127, from activations
};

// In the order of Isa.
constexpr Format formats[] = {
    {Isa::scalar, "scalar", 1, 1, 64, 4, 1},     {Isa::avx512_vnni, "avx512_vnni", 16, 4, 64, 4, 1},
    {Isa::avx2, "avx2", 8, 2, 16, 2, 2},         {Isa::neon_dotprod, "neon_dotprod", 1, 1, 16, 4, 1, true},
    {Isa::neon, "neon", 1, 1, 8, 16, 1, true},   {Isa::neon_i8mm, "neon_i8mm", 1, 1, 16, 8, 1},
    {Isa::avx_vnni, "avx_vnni", 8, 2, 16, 4, 1}, {Isa::amx_int8, "amx_int8", 16, 4, 64, 4, 1}};

constexpr const Format& format_of(Isa isa)
{
    return formats[static_cast<int32_t>(isa)];
}

constexpr int64_t block_count(int64_t channels)
{
    return divide_up(channels, block_channels);
}

// Channels of a block's panel, and inside a layer of a pixel: those that fill it are included.
constexpr int64_t block_width(int64_t channels, int64_t block)
{
    const int64_t left = channels - block * block_channels;
    return left > 32 ? 64 : left > 16 ? 32 : 16;
}

// Channels of all blocks, those that fill the last one included.
constexpr int64_t padded_channels(int64_t channels)
{
    const int64_t last = block_count(channels) - 1;
    return last * block_channels + block_width(channels, last);
}

// Channels of a block between layers.
constexpr int64_t stored_width(int64_t channels, int64_t block)
{
    constexpr int64_t step = 8;
    const int64_t left = channels - block * block_channels;
    return left > block_channels ? block_channels : round_up(left, step);
}

// The channel whose sum stands in a lane, where groups of vectors are narrowed together.
constexpr int64_t channel_of_lane(int64_t lane, int64_t group_vectors, int64_t vector_lanes)
{
    constexpr int64_t quarter = 4;  // lanes that narrowing moves together
    if (vector_lanes == 1) return lane;
    const int64_t group = lane / (group_vectors * vector_lanes), vector = lane / vector_lanes % group_vectors;
    const int64_t within = lane % vector_lanes;
    return (group * vector_lanes + within / quarter * quarter) * group_vectors + vector * quarter + within % quarter;
}

constexpr int64_t pointwise_channel(int64_t lane, int64_t width, const Format& format)
{
    const int64_t vectors = width / format.vector_lanes;
    return channel_of_lane(lane, vectors < format.group_vectors ? vectors : format.group_vectors, format.vector_lanes);
}

// Bytes are interleaved and narrowed in four vectors, of a whole block where they are long enough; 16-bit words as sums are.
constexpr int64_t depthwise_channel(int64_t lane, int64_t width, const Format& format)
{
    if (format.vector_lanes == 1 || format.weight_bytes == 2) return pointwise_channel(lane, width, format);
    return channel_of_lane(lane, 4, width / 4 < format.vector_lanes ? width / 4 : format.vector_lanes);
}

// Where a weight stands in a panel with this number of steps; k: the depth.
constexpr int64_t pointwise_index(int64_t lane, int64_t k, int64_t steps, int64_t width, const Format& format)
{
    const int64_t group = width < format.group ? width : format.group;
    return ((lane / group * steps + k / format.depths) * group + lane % group) * format.depths + k % format.depths;
}

// Where a depthwise weight stands in its block.
constexpr int64_t depthwise_index(int64_t lane, int64_t kx, int64_t ky, int64_t width, const Format& format)
{
    if (format.weight_bytes == 1) return (kx * width + lane) * 4 + ky;
    const int64_t group = format.group, first = lane / group * group;
    return first * kernel_size * 4 + ((kx * 2 + ky / 2) * group + lane - first) * 2 + ky % 2;
}

// What kernels with starts subtract from an activation: 127 if they subtract its product, too (simd/neon/smull-inl.h).
constexpr int32_t offset_of(bool has_subtracted_product, const Format& format)
{
    if (!format.has_starts) return 0;
    return has_subtracted_product ? 127 : 128;
}

constexpr int32_t pointwise_offset(int64_t k, const Format& format)
{
    return offset_of(format.depths == 16 && k % 16 >= 8, format);
}

constexpr int32_t depthwise_offset(int64_t ky, const Format& format)
{
    return offset_of(format.depths == 16 && ky == 1, format);
}

// 32-bit words that hold an image's pixel.
constexpr int32_t word_bytes = 4;

constexpr int64_t pixel_words(int64_t channels)
{
    return divide_up(channels, word_bytes);
}

// --- sizes in bytes ---

constexpr int64_t float_bytes = sizeof(float);

// Steps of a layer with this number of depths.
constexpr int64_t steps_of(int64_t depths, const Format& format)
{
    return divide_up(depths, int64_t{format.depths});
}

// A stem's weights: no step has more depths than a word.
constexpr Format stem_format(Format format)
{
    if (format.depths > word_bytes) format.depths = word_bytes;
    return format;
}

constexpr int64_t stem_steps(int64_t in_channels, const Format& format)
{
    return steps_of(kernel_taps * pixel_words(in_channels) * word_bytes, stem_format(format));
}

// Bytes in front of a panel's or a depthwise block's weights.
constexpr int64_t factor_bytes(int64_t factors, int64_t width, const Format& format)
{
    return (factors + (format.has_starts ? 1 : 0)) * width * float_bytes;
}

constexpr int64_t panel_bytes(int64_t steps, int64_t width, const Format& format)
{
    return factor_bytes(3, width, format) + width * steps * format.depths * format.weight_bytes;
}

constexpr int64_t stem_panel_bytes(int64_t in_channels, int64_t width, const Format& format)
{
    return panel_bytes(stem_steps(in_channels, format), width, stem_format(format));
}

// All panels of a layer.
constexpr int64_t panels_bytes(int64_t steps, int64_t out_channels, const Format& format)
{
    return panel_bytes(steps, padded_channels(out_channels), format);
}

constexpr int64_t depthwise_bytes(int64_t channels, const Format& format)
{
    const int64_t padded = padded_channels(channels);
    return factor_bytes(2, padded, format) + kernel_size * 4 * format.weight_bytes * padded;
}

}  // namespace mnv2::cpu::int8
