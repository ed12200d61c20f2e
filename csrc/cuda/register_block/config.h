// The forms of register_block's kernels, the layout of their packed weights, and what a launch tells them.
#pragma once

#include <cstdint>

#include "core/block.h"

namespace mnv2::cuda {

constexpr int step_channels = 16;
constexpr int half_channels = 8;
constexpr int patches_per_warp = 8;
constexpr int fragment16_bytes = 256;  // a B fragment of 16 rows: 8 bytes a lane
constexpr int fragment8_bytes = 128;

// What the four lanes of a group know of their channel pair in one half of a step. An odd number of 16 bytes, so that the
// lanes' pieces lie in different banks.
template <class T>
struct alignas(16) HalfConstants {
    float expand_bias[4];  // twice the pair: an mma's whole accumulator, loaded in one piece
    T taps[kernel_taps][2];
    T depthwise_bias[2];
    T unused[12];
};
static_assert(sizeof(HalfConstants<uint16_t>) == 80);

template <class Element, int in, int out, int block_stride, int height, int width, int warp_count, int blocks>
struct RegisterBlock {
    using T = Element;
    static constexpr int in_channels = in, out_channels = out, stride = block_stride;
    static constexpr int patch_height = height, patch_width = width, warps = warp_count, blocks_per_sm = blocks;

    static constexpr int hidden_height = (patch_height - 1) * stride + 3, hidden_width = (patch_width - 1) * stride + 3;
    static constexpr int hidden = hidden_height * hidden_width, hidden_tiles = (hidden + 1) / 2;
    static constexpr int outputs = patch_height * patch_width, output_tiles = outputs / 2, column_tiles = out_channels / 8;
    static constexpr int depth16 = in_channels / 16;
    static constexpr bool depth8 = in_channels % 16 != 0;  // eight channels more
    static constexpr int fragment_registers = depth16 * 4 + depth8 * 2;

    static constexpr int bias_bytes = out_channels * 4;
    static constexpr int expand_bytes = depth16 * fragment16_bytes + depth8 * fragment8_bytes;
    static constexpr int half_bytes = expand_bytes + 4 * static_cast<int>(sizeof(HalfConstants<T>));
    static constexpr int step_bytes = 2 * half_bytes + column_tiles * fragment16_bytes;

    static_assert(in_channels % 8 == 0 && out_channels % 8 == 0 && outputs % 2 == 0);
};

struct RegisterBlockArguments {
    const void* input;
    void* output;
    const uint8_t* packed;
    int steps, height, width, out_height, out_width, padding_top, padding_left;
    int patch_rows, patch_columns;
    int64_t patches;
    float high;  // of the activation's clamp; the low end is 0
    bool residual;
};

// The channels of output fragment n: neighbours for two tiles together, so that a lane stores 8 bytes and finds the
// shortcut's values in its own input fragments.
template <class Block>
constexpr int first_channel(int n, int quad)
{
    const bool paired = n / 2 * 2 + 1 < Block::column_tiles;
    return paired ? n / 2 * 16 + quad * 4 + n % 2 * 2 : n * 8 + quad * 2;
}

}  // namespace mnv2::cuda
