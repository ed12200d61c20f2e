// The tiles of the stem's kernels, and what a launch tells them.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "core/sums.h"
#include "cuda/common/stem_tile.cuh"

namespace mnv2::cuda {

constexpr int stem_warps = 4;
constexpr int stem_threads = 32 * stem_warps;
constexpr int stem_tile_columns = 16;

struct StemArguments {
    StemInput x;
    const uint32_t* packed;
    void* y;
    int in_channels, out_channels, groups;
    int out_height, out_width, padding_top, padding_left;
    int tile_rows, tile_columns;  // tiles of an image
    int64_t tiles;
    Clamp clamp;
};

constexpr int stem_mma_rows = 16;
constexpr int stem_mma_blocks_per_sm = 4;  // five would spill registers

template <class T, int convolution_stride>
using StemMmaTile =
    StemTile<T, StemTileShape{.stride = convolution_stride, .rows = stem_mma_rows, .columns = stem_tile_columns}>;

constexpr int stem_chunk_channels = 4;  // input channels in shared memory
constexpr int stem_chunk_taps = stem_chunk_channels * static_cast<int>(kernel_taps);
constexpr int stem_thread_channels = stem_group_channels / 2;
constexpr int stem_run_chunks = 2;  // chunks that are added up in a row: 72 depths, where sum_depth are allowed
constexpr int stem_scalar_blocks_per_sm = 3;

// With many depths the sums of every few chunks are added to totals.
template <class Element, int convolution_stride, bool many_depths>
struct StemScalarTile {
    using X = Element;
    static constexpr int stride = convolution_stride;
    static constexpr bool is_long = many_depths;
    static constexpr int thread_rows = is_long ? 2 : 4;  // a second accumulator doubles the registers
    static constexpr int rows = stem_warps * thread_rows;
    static constexpr int in_rows = (rows - 1) * stride + 3, in_columns = (stem_tile_columns - 1) * stride + 3;
    static constexpr int thread_in_rows = (thread_rows - 1) * stride + 3;
    static constexpr int channel_floats = in_rows * in_columns;
    static constexpr int weight_bytes = stem_chunk_taps * stem_group_channels * static_cast<int>(sizeof(float));
    static constexpr int bytes = weight_bytes + stem_chunk_channels * channel_floats * static_cast<int>(sizeof(float));
};

}  // namespace mnv2::cuda
