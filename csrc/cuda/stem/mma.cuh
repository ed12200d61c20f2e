// The stem on tensor cores.
#pragma once

#include <cstdint>

#include "cuda/common/ptx.cuh"
#include "cuda/stem/place.cuh"

namespace mnv2::cuda {

// Activates and stores a lane's eight channels of the pixels at (row, pixel) and eight columns further, as far as they exist.
template <class T>
__device__ __forceinline__ void store_stem_pixels(const StemArguments& p, const StemPlace& first, int pixel, int channel,
                                                  const float (&sums)[stem_column_tiles][4])
{
    const uint32_t low = ptx::pack2<T>(p.epilogue.clamp.low, p.epilogue.clamp.low),
                   high = ptx::pack2<T>(p.epilogue.clamp.high, p.epilogue.clamp.high);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const int x = first.column + pixel + i * 8;
        if (first.row >= p.out_height || x >= p.out_width || channel >= p.out_channels) continue;
        uint32_t pairs[stem_column_tiles];
#pragma unroll
        for (int n = 0; n < stem_column_tiles; ++n)
            pairs[n] = ptx::min2<T>(ptx::max2<T>(ptx::pack2<T>(sums[n][2 * i], sums[n][2 * i + 1]), low), high);
        ptx::store_global(stem_output<T>(p, first.image, first.row, x) + channel,
                          uint4{pairs[0], pairs[1], pairs[2], pairs[3]});
    }
}

// Makes a group of output channels of a tile, a row at a time in each warp.
template <class Tile>
__device__ __forceinline__ void make_stem_group(const StemArguments& p, const StemPlace& place, const uint8_t* inputs,
                                                int group)
{
    using T = typename Tile::T;
    const int lane = threadIdx.x % 32, pixel = lane / 4, quad = lane % 4;
    StemFragments weights;
    weights.load(p.packed + static_cast<int64_t>(group) * StemFragments::words, lane);
    for (int row = threadIdx.x / 32; row < Tile::rows; row += stem_warps) {
        uint32_t windows[2][stem_slots];
        float sums[stem_column_tiles][4];
        Tile::load_window(inputs, row, pixel, quad, windows[0]);
        Tile::load_window(inputs, row, pixel + 8, quad, windows[1]);
        __syncwarp();
        weights.convolve<T>(windows[0], windows[1], sums);
        store_stem_pixels<T>(p, {place.image, place.row + row, place.column}, pixel, group * stem_group_channels + quad * 8,
                             sums);
    }
}

}  // namespace mnv2::cuda
