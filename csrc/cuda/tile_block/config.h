// The forms of tile_block's kernels, the sizes of what they exchange and pack, and what a launch tells them.
#pragma once

#include <array>
#include <cstdint>

#include "core/block.h"
#include "cuda/common/sizes.h"

namespace mnv2::cuda {

constexpr int chunk_depths = chunk_channels / 16;  // depths of the projection's mma
constexpr int chunk_pairs = chunk_channels / 16;   // pairs of column tiles of the expand layer
constexpr int patch_size = 2;
constexpr int strip_patches = 8;
constexpr int strip_tiles = patch_size * patch_size / 2;  // a row tile has 16 rows, two for each group of lanes
constexpr int tile_pixels = 16;                           // rows of an mma
constexpr int fragment_bytes = 512;                       // 16 bytes a lane: an A fragment, or B of two column tiles
// An expanded pixel's channels and 16 bytes: an odd number of 16 bytes, so that eight neighbours' 16 bytes, which the expansion
// stores, lie in different banks, and so do four patches' 32 bytes, which the convolution loads.
constexpr int expanded_row = chunk_channels + 8;
constexpr int lane_constants = 20;  // words: nine taps and a bias for two pairs of channels
constexpr int depthwise_bytes = chunk_depths * 4 * lane_constants * 4;
constexpr uint16_t outside = 0xffff;

constexpr int expand_bytes(int depths)
{
    return depths * chunk_pairs * fragment_bytes + chunk_channels * 4;
}

constexpr int project_bytes(int pairs)
{
    return chunk_depths * pairs * fragment_bytes;
}

constexpr int chunk_bytes(int depths, int pairs)
{
    return expand_bytes(depths) + depthwise_bytes + project_bytes(pairs);
}

// The form of a kernel. 0 channels: any number, known at run time.
struct TileShape {
    int in_channels = 0, out_channels = 0, stride = 1;
    bool direct = false;      // a warp projects what it has convolved; else convolved pixels go through shared memory
    bool held = false;        // warps that only expand hold the input pixels in registers, else these lie in shared memory
    int stack = 1;            // strips that a warp convolves at a time: patches touch, so common rows are read once
    int row_tiles = 2;        // that a warp projects
    int column_pairs = 5;     // the most pairs of column tiles that a warp projects
    int unit_tiles = 2;       // row tiles of input pixels that a warp expands at a time
    int most_warps = 12;      // of a thread block
    int weight_buffers = 2;   // of a step's weights; with one, the next step's weights come after the step
    int unrolled_depths = 1;  // of the expand layer

    bool operator==(const TileShape&) const = default;

    constexpr int project_lag() const { return direct ? 1 : 2; }  // steps from a chunk's expansion to its projection

    constexpr bool is_valid() const
    {
        if ((in_channels == 0) != (out_channels == 0) || (held && in_channels == 0)) return false;
        if (in_channels % 8 != 0 || out_channels % 8 != 0) return false;
        if (divide_up(out_channels, 16) % column_pairs != 0) return false;
        return !direct || row_tiles == stack * strip_tiles;
    }
};

template <class Element, TileShape shape>
struct TileBlock {
    using T = Element;
    static constexpr int in_channels = shape.in_channels, out_channels = shape.out_channels, stride = shape.stride;
    static constexpr bool direct = shape.direct, held = shape.held;
    static constexpr int stack = shape.stack, stack_tiles = shape.stack * strip_tiles;
    static constexpr int row_tiles = shape.row_tiles, column_pairs = shape.column_pairs, unit_tiles = shape.unit_tiles;
    static constexpr int most_warps = shape.most_warps, weight_buffers = shape.weight_buffers;
    static constexpr int project_lag = shape.project_lag(), unrolled_depths = shape.unrolled_depths;
    static constexpr int known_depths = divide_up(in_channels, 16), known_pairs = divide_up(out_channels, 16);

    static_assert(shape.is_valid());
};

// Blocks of MobileNetV2 1.0, in the form and tile with the fewest wavefronts of shared memory among those that spill nowhere
// (benchmarks/NOTES.md): direct as long as one warp's accumulators take all output channels, input pixels in registers as
// long as all warps' fit beside each other. 160-960-320 reads each fragment for four row tiles instead. At 7x7 bfloat16,
// which convolves in float, has no registers for a stack of two.
constexpr std::array<TileShape, 6> stage_shapes(ScalarType type)
{
    const int stack = type == ScalarType::float16 ? 2 : 1;
    std::array<TileShape, 6> shapes = {{
        {.in_channels = 64,
         .out_channels = 64,
         .direct = true,
         .held = true,
         .column_pairs = 4,
         .unit_tiles = 4,
         .most_warps = 11},
        {.in_channels = 64,
         .out_channels = 96,
         .direct = true,
         .held = true,
         .column_pairs = 6,
         .unit_tiles = 4,
         .most_warps = 11},
        {.in_channels = 96, .out_channels = 96, .direct = true, .held = true, .column_pairs = 6, .unit_tiles = 3},
        {.in_channels = 96, .out_channels = 160, .stride = 2, .held = true, .stack = 2, .unit_tiles = 4, .most_warps = 8},
        {.in_channels = 160, .out_channels = 160, .held = true, .stack = stack},
        {.in_channels = 160, .out_channels = 320, .stack = stack, .row_tiles = 4, .most_warps = 8},
    }};
    for (TileShape& shape : shapes) shape.unrolled_depths = 16;
    return shapes;
}

// All other channels, and all small batches.
constexpr TileShape direct_shape(int stride)
{
    return {.stride = stride, .direct = true, .column_pairs = 6, .most_warps = 8};
}

constexpr TileShape shared_shape(int stride)
{
    return {.stride = stride};
}

// Where a GPU has too little shared memory for two steps' weights, such as 99 KiB for MobileNetV2 1.4's last block. Input
// pixels in single row tiles fill up less than in twos.
constexpr TileShape small_shape(int stride)
{
    return {.stride = stride, .unit_tiles = 1, .weight_buffers = 1};
}

// Every form that is compiled.
constexpr std::array<TileShape, 12> tile_shapes(ScalarType type)
{
    const std::array<TileShape, 6> stage = stage_shapes(type);
    return {stage[0],        stage[1],        stage[2],       stage[3],        stage[4],        stage[5],
            direct_shape(1), shared_shape(1), small_shape(1), direct_shape(2), shared_shape(2), small_shape(2)};
}

struct TileArguments {
    const void* input;
    void* output;
    const uint8_t* packed;
    int64_t batch;
    int in_channels, expanded_channels, out_channels, depths, pairs, chunks;
    int height, width, out_height, out_width, padding_top, padding_left;

    int tile_rows, tile_columns;        // tiles of an image
    int strips, images, strip_height;   // of one tile
    int patches_across, patch_columns;  // patches of an image in a strip: that lanes have room for, and that are needed
    int rows, columns, pitch, odd_at;   // expanded pixels of an image in a tile; odd_at: where a row's odd columns start
    int units;                          // units of input pixels, unit_tiles row tiles each
    int workers;                        // warps that convolve and project
    int row_groups, warp_pairs;         // warps that share the row tiles of the projection; pairs of column tiles of a warp
    int expanded_bytes, exchange_at, exchange_bytes, input_at, place_at, weights_at, shared_bytes;

    float high;  // upper end of the activation's clamp; the lower end is 0
    bool residual;
};

}  // namespace mnv2::cuda
