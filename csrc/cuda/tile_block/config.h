// The forms of tile_block's kernels, the sizes of what they exchange and pack, and what a launch tells them.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "cuda/common/sizes.h"

namespace mnv2::cuda {

constexpr int chunk_channels = 32;
constexpr int chunk_depths = chunk_channels / 16;  // of the projection, in mma's
constexpr int chunk_pairs = chunk_channels / 16;   // of the expand layer's column tiles
constexpr int patch_size = 2;
constexpr int strip_patches = 8;
constexpr int strip_tiles = patch_size * patch_size / 2;  // of 16 rows: a group has two rows in each
constexpr int tile_pixels = 16;                           // of an mma's rows
constexpr int fragment_bytes = 512;                       // 16 bytes a lane: an A fragment, or B of two column tiles
// A hidden pixel's channels and 16 bytes: an odd number of 16 bytes, so that eight neighbours' 16 bytes, which the expansion
// stores, lie in different banks, and so do four patches' 32 bytes, which the convolution loads.
constexpr int hidden_row = chunk_channels + 8;
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

// in and out 0: at run time. A warp convolves stacked strips at a time, whose patches touch, so that taps and common rows are
// read once; it projects tiles row tiles and at most pairs pairs of column tiles, and expands pixels row tiles of input pixels
// at a time.
template <class Element, int in, int out, int block_stride, bool is_direct, bool is_held, int stacked, int tiles, int pairs,
          int pixels, int warps>
struct TileBlock {
    using T = Element;
    static constexpr int in_channels = in, out_channels = out, stride = block_stride;
    static constexpr bool direct = is_direct, held = is_held;
    static constexpr int stack = stacked, stack_tiles = stacked * strip_tiles;
    static constexpr int row_tiles = tiles, column_pairs = pairs, unit_tiles = pixels, most_warps = warps;
    static constexpr int project_lag = direct ? 1 : 2;  // steps from a chunk's expansion
    static constexpr int known_depths = divide_up(in, 16), known_pairs = divide_up(out, 16);
    static constexpr int unrolled_depths = in > 0 ? 16 : 1;  // of the expand layer
    static constexpr int weight_buffers = 2;                 // of a step's weights; with one, the next step's come after it

    static_assert((in == 0) == (out == 0) && in % 8 == 0 && out % 8 == 0 && known_pairs % column_pairs == 0);
    static_assert(!direct || row_tiles == stack_tiles);
    static_assert(!held || in > 0);
};

struct TileArguments {
    const void* input;
    void* output;
    const uint8_t* packed;
    int64_t batch;
    int in_channels, expanded_channels, out_channels, depths, pairs, chunks;
    int height, width, out_height, out_width, padding_top, padding_left;

    int tile_rows, tile_columns;        // of tiles, over an image
    int strips, images, strip_height;   // of a tile
    int patches_across, patch_columns;  // of an image in a strip: as many as it has lanes for, and those that it needs
    int rows, columns, pitch, odd_at;   // of hidden pixels, an image; odd_at is where a row's odd columns start
    int units;                          // of input pixels
    int workers;                        // warps that convolve and project
    int row_groups, warp_pairs;         // of the projection: warps that share the row tiles, a warp's column pairs
    int hidden_bytes, exchange_at, exchange_bytes, input_at, place_at, weights_at, shared_bytes;

    float high;  // of the activation's clamp; the low end is 0
    bool residual;
};

}  // namespace mnv2::cuda
