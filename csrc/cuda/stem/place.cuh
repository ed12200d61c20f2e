// Where the tiles of the stem's kernels lie in the output.
#pragma once

#include <cstdint>

#include "cuda/stem/config.h"

namespace mnv2::cuda {

// Where a tile's outputs start.
struct StemPlace {
    int64_t image;
    int row, column;
};

__device__ __forceinline__ StemPlace stem_place(const StemArguments& p, int64_t tile, int rows)
{
    const int64_t tiles_per_image = static_cast<int64_t>(p.tile_rows) * p.tile_columns;
    const auto at = static_cast<int>(tile % tiles_per_image);
    return {tile / tiles_per_image, at / p.tile_columns * rows, at % p.tile_columns * stem_tile_columns};
}

// The address of an output pixel, which exists.
template <class T>
__device__ __forceinline__ T* stem_output(const StemArguments& p, int64_t image, int row, int column)
{
    return static_cast<T*>(p.y) + ((image * p.out_height + row) * p.out_width + column) * p.out_channels;
}

}  // namespace mnv2::cuda
