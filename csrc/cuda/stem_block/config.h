// The forms of stem_block's kernel, and what a launch tells it.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "cuda/common/stem_tile.cuh"

namespace mnv2::cuda {

constexpr int stem_block_channels = stem_group_channels;  // channels between stem and projection
constexpr int stem_block_out_channels = 16;
constexpr int lane_channels = stem_block_channels / 4, lane_words = lane_channels / 2;
constexpr int pixel_pair_bytes = 4 * 2 * static_cast<int>(sizeof(uint32_t));  // four lanes' words in two rows
constexpr int project_column_tiles = stem_block_out_channels / 8, project_steps = stem_block_channels / 16;

// The packed weights of the depthwise layer: biases, then the pieces of every lane.
struct DepthwiseWords {
    static constexpr int lane_pieces = static_cast<int>(kernel_taps),
                         piece_words = 32 * 4;  // each lane has four words of a piece
    static constexpr int bias_words = BiasFragments<lane_words>::words, words = bias_words + lane_pieces * piece_words;

    // The channel word and the tap that word i of a piece holds.
    __host__ __device__ static constexpr int word_of(int piece, int i) { return piece % 3 == 2 ? i : piece % 3 * 2 + i / 2; }
    __host__ __device__ static constexpr int tap_of(int piece, int i) { return piece / 3 * 3 + (piece % 3 == 2 ? 2 : i % 2); }
};

// Tiles have 16 columns and 28 rows, or for small batches eight: both divide the 112 x 112 of MobileNetV2. A tile of 28
// rows needs 1.21 times as many of the stem's outputs as it has pixels, a tile of eight rows 1.41 times.
template <class Element, int stem_stride, int tile_rows>
struct StemBlock {
    using T = Element;
    static constexpr int stride = stem_stride, blocks_per_sm = 3;  // with 168 registers a thread
    static constexpr int rows = tile_rows, columns = 16, warps = 4, threads = 32 * warps;
    static constexpr int column_warps = columns / 8, strip_rows = rows / (warps / column_warps);
    static constexpr int expanded_rows = rows + 2, expanded_columns = columns + 2,
                         expanded_pairs = expanded_rows / 2 * expanded_columns;
    static constexpr int plane_bytes = expanded_columns * pixel_pair_bytes, pair_bytes = lane_words * plane_bytes;
    using Tile = StemTile<T, StemTileShape{.stride = stem_stride, .rows = expanded_rows, .columns = expanded_columns}>;
    static constexpr int expanded_at = round_up(Tile::bytes, 128), shared_bytes = expanded_at + expanded_rows / 2 * pair_bytes;

    static constexpr int depthwise_at = StemFragments::words;
    static constexpr int project_at = depthwise_at + DepthwiseWords::words;
    static constexpr int project_words =
        BiasFragments<project_column_tiles>::words + project_steps * project_column_tiles * StemFragments::fragment_words;
    static constexpr int packed_words = project_at + project_words;
    static_assert(strip_rows % 2 == 0 && expanded_rows % 2 == 0);
};

struct StemBlockArguments {
    StemInput x;
    const uint32_t* packed;
    void* y;
    int stem_padding_top, stem_padding_left, padding_top, padding_left;
    int expanded_height, expanded_width, out_height, out_width;
    int tile_rows, tile_columns;
    int64_t tiles;
    float stem_high, high;  // upper ends of the clamps; the lower ends are 0
};

}  // namespace mnv2::cuda
