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

// The constants of a lane's pair of channels in one half of a step. Their size is an odd number of 16 bytes, so that the four
// lanes of a group read different banks.
template <class T>
struct alignas(16) HalfConstants {
    float expand_bias[4];  // the pair twice: a whole accumulator of an mma in one load
    T taps[kernel_taps][2];
    T depthwise_bias[2];
    T unused[12];
};
constexpr int half_constants_bytes = 80;
static_assert(sizeof(HalfConstants<uint16_t>) == half_constants_bytes);

// The form of a kernel: the block's channels and stride, the patch of output pixels that a group of lanes makes, and how many
// warps a thread block has and thread blocks a multiprocessor.
struct RegisterShape {
    int in_channels, out_channels, stride = 1;
    int patch_height, patch_width = 2;
    int warps = 4, blocks_per_sm = 2;

    bool operator==(const RegisterShape&) const = default;

    constexpr int depth16() const { return in_channels / 16; }
    constexpr bool depth8() const { return in_channels % 16 != 0; }  // eight channels remain
    constexpr int column_tiles() const { return out_channels / 8; }

    constexpr int bias_bytes() const { return out_channels * 4; }
    constexpr int expand_bytes() const { return depth16() * fragment16_bytes + depth8() * fragment8_bytes; }
    constexpr int half_bytes() const { return expand_bytes() + 4 * half_constants_bytes; }
    constexpr int step_bytes() const { return 2 * half_bytes() + column_tiles() * fragment16_bytes; }

    constexpr bool is_valid() const
    {
        return in_channels % 8 == 0 && out_channels % 8 == 0 && patch_height * patch_width % 2 == 0;
    }
};

// Patch, warps and blocks per SM: what was fastest on an H100 at batch 256 among those that spill nowhere
// (benchmarks/NOTES.md). Larger patches expand fewer halo pixels, but their fragments fill the registers.
constexpr RegisterShape register_shapes[] = {
    {.in_channels = 16, .out_channels = 24, .stride = 2, .patch_height = 3},
    {.in_channels = 24, .out_channels = 24, .patch_height = 4},
    {.in_channels = 24, .out_channels = 32, .stride = 2, .patch_height = 2},
    {.in_channels = 32, .out_channels = 32, .patch_height = 2},
    {.in_channels = 32, .out_channels = 64, .stride = 2, .patch_height = 2, .patch_width = 1, .blocks_per_sm = 3}};

template <class Element, RegisterShape shape>
struct RegisterBlock {
    using T = Element;
    static constexpr int in_channels = shape.in_channels, out_channels = shape.out_channels, stride = shape.stride;
    static constexpr int patch_height = shape.patch_height, patch_width = shape.patch_width;
    static constexpr int warps = shape.warps, threads = 32 * warps, blocks_per_sm = shape.blocks_per_sm;

    static constexpr int expanded_height = (patch_height - 1) * stride + 3, expanded_width = (patch_width - 1) * stride + 3;
    static constexpr int expanded_pixels = expanded_height * expanded_width, expanded_tiles = (expanded_pixels + 1) / 2;
    static constexpr int outputs = patch_height * patch_width, output_tiles = outputs / 2, column_tiles = shape.column_tiles();
    static constexpr int depth16 = shape.depth16();
    static constexpr bool depth8 = shape.depth8();
    static constexpr int fragment_registers = depth16 * 4 + depth8 * 2;

    static constexpr int bias_bytes = shape.bias_bytes(), expand_bytes = shape.expand_bytes();
    static constexpr int half_bytes = shape.half_bytes(), step_bytes = shape.step_bytes();

    static_assert(shape.is_valid());
};

struct RegisterBlockArguments {
    const void* input;
    void* output;
    const uint8_t* packed;
    int steps, height, width, out_height, out_width, padding_top, padding_left;
    int patch_rows, patch_columns;
    int64_t patches;
    float high;  // upper end of the activation's clamp; the lower end is 0
    bool residual;
};

// First of a lane's two channels in output fragment n. Two fragments together have four neighbours, so that a lane stores 8
// bytes and finds the shortcut's values in its own input fragments.
template <class Block>
constexpr int first_channel(int n, int quad)
{
    const bool paired = n / 2 * 2 + 1 < Block::column_tiles;
    return paired ? n / 2 * 16 + quad * 4 + n % 2 * 2 : n * 8 + quad * 2;
}

}  // namespace mnv2::cuda
