// The tiles of the stem's kernels, and what a launch tells them.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "core/sums.h"
#include "cuda/common/epilogue.h"
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
    Epilogue epilogue;
    ScalarType type;  // of the tensors, for tiles that do not have it
};

constexpr int stem_mma_rows = 16;
constexpr int stem_mma_blocks_per_sm = 4;  // five would spill registers

template <class T, int convolution_stride>
using StemMmaTile =
    StemTile<T, StemTileShape{.stride = convolution_stride, .rows = stem_mma_rows, .columns = stem_tile_columns}>;

constexpr int stem_thread_channels = stem_group_channels / 2;
constexpr int stem_scalar_blocks_per_sm = 3;

// With many depths the sums of every few chunks are added to totals.
struct StemScalarShape {
    int kernel, stride;
    bool has_many_depths;
};

// Element: the tensors' type, or void for one that the arguments tell.
template <class Element, StemScalarShape shape>
struct StemScalarTile {
    using X = Element;
    static constexpr int kernel = shape.kernel, stride = shape.stride, taps = kernel * kernel;
    static constexpr bool is_long = shape.has_many_depths;
    static constexpr int chunk_channels = kernel == 3 ? 4 : kernel == 5 ? 3 : 1;  // input channels in shared memory
    static constexpr int run_chunks = kernel == 3 ? 2 : 1;                        // that are added up in a row
    static_assert(run_chunks * chunk_channels * taps <= sum_depth);
    static constexpr int unrolled_columns = kernel == 3 ? kernel : 1;  // of a window: larger ones would be long code
    static constexpr int thread_rows = is_long ? 2 : 4;                // a second accumulator doubles the registers
    static constexpr int rows = stem_warps * thread_rows;
    static constexpr int in_rows = (rows - 1) * stride + kernel, in_columns = (stem_tile_columns - 1) * stride + kernel;
    static constexpr int thread_in_rows = (thread_rows - 1) * stride + kernel;
    static constexpr int channel_floats = in_rows * in_columns;
    static constexpr int weight_bytes = chunk_channels * taps * stem_group_channels * static_cast<int>(sizeof(float));
    static constexpr int bytes = weight_bytes + chunk_channels * channel_floats * static_cast<int>(sizeof(float));
};

}  // namespace mnv2::cuda
