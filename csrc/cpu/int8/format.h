// THE format of int8: how activations lie in a thread's scratch and weights in a packed layer.
//
//   activations: uint8 in blocks of 64 channels, [blocks][pixels][width]. The last block is 16, 32 or 64 channels wide.
//   pointwise and linear layers: a panel for each block of output channels: M[width], B[width], R[width] as float32, then the
//       weights int8 [K / 4][width][4], K rounded up to 4.
//   stem: the image's pixels lie in rows of 4 * pixel_words bytes a pixel. Panels as above, weights [3 ky][3 kx][pixel_words]
//       in the place of [K / 4]. In front of them 64 bytes that hold the byte of each channel that surrounds the image.
//   head: 64 bytes that hold the pool's factor, float32, then panels.
//   depthwise layers: for each block M[width], B[width] as float32, then the weights int8 [3 kx][width][4 ky], ky = 3 being 0.
//
// M, B and R are the factors of y = fma(float(sum), M, B), with a shortcut y = fma(float(q), R, y), q = clamp(rint(y), 0, 255).
// A pooled q is clamp(rint(float(sum) * (pool / float(pixels))), 0, 255), logits are y. What a channel or a depth that only
// fills a block holds is zero, so its results are zero, too.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "core/sizes.h"

namespace mnv2::cpu::int8 {

constexpr int64_t block_channels = 64;
constexpr int64_t depth_step = 4;  // depths that one instruction adds up

// These numbers stand in packed headers.
enum class Isa : int32_t { scalar, avx512_vnni };

// What an instruction set asks of its weights. A block's bytes are narrowed from vectors of 32-bit sums, which joins the lanes
// of four neighbouring vectors: channels stand in vectors so that the joined bytes are in order.
struct Format {
    Isa isa;
    const char* name;      // in MNV2_FORCE_ISA
    int32_t vector_lanes;  // 32-bit sums in a vector; 1: channels are in order
};

// In the order of Isa.
constexpr Format formats[] = {{Isa::scalar, "scalar", 1}, {Isa::avx512_vnni, "avx512_vnni", 16}};

constexpr const Format& format_of(Isa isa)
{
    return formats[static_cast<int32_t>(isa)];
}

constexpr int64_t block_count(int64_t channels)
{
    return divide_up(channels, block_channels);
}

// Channels of a block, those that fill it included.
constexpr int64_t block_width(int64_t channels, int64_t block)
{
    const int64_t left = channels - block * block_channels;
    return left > 32 ? 64 : left > 16 ? 32 : 16;
}

// Channels of all blocks, those that fill the last one included.
constexpr int64_t stored_channels(int64_t channels)
{
    const int64_t last = block_count(channels) - 1;
    return last * block_channels + block_width(channels, last);
}

// The channel of a block whose sum stands in a lane. The vectors of a pointwise layer are full, as few as its width needs.
constexpr int64_t channel_of_lane(int64_t lane, int64_t vectors, int64_t vector_lanes)
{
    constexpr int64_t quarter = 4;  // lanes that packing moves together
    if (vector_lanes == 1) return lane;
    const int64_t vector = lane / vector_lanes, within = lane % vector_lanes, group = vector / 4;
    const int64_t joined = vectors < 4 ? vectors : 4;
    return group * 4 * vector_lanes + within / quarter * quarter * joined + (vector % 4) * quarter + within % quarter;
}

constexpr int64_t pointwise_channel(int64_t lane, int64_t width, const Format& format)
{
    return channel_of_lane(lane, width / format.vector_lanes, format.vector_lanes);
}

// A depthwise block is held by four vectors, whatever its width.
constexpr int64_t depthwise_channel(int64_t lane, int64_t width, const Format& format)
{
    return format.vector_lanes == 1 ? lane : channel_of_lane(lane, 4, width / 4);
}

// 32-bit words that hold an image's pixel.
constexpr int64_t pixel_words(int64_t channels)
{
    return divide_up(channels, depth_step);
}

// --- sizes in bytes ---

constexpr int64_t float_bytes = sizeof(float);

constexpr int64_t panel_bytes(int64_t steps, int64_t width)
{
    return width * (3 * float_bytes + steps * depth_step);
}

// Panels of a layer with this number of steps of four depths.
constexpr int64_t panels_bytes(int64_t steps, int64_t out_channels)
{
    return panel_bytes(steps, 1) * stored_channels(out_channels);
}

constexpr int64_t pointwise_steps(int64_t in_channels)
{
    return divide_up(in_channels, depth_step);
}

constexpr int64_t pointwise_bytes(int64_t in_channels, int64_t out_channels)
{
    return panels_bytes(pointwise_steps(in_channels), out_channels);
}

constexpr int64_t depthwise_bytes(int64_t channels)
{
    return (2 * float_bytes + kernel_size * 4) * stored_channels(channels);
}

}  // namespace mnv2::cpu::int8
