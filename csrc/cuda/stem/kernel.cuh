// The stem: a dense convolution of an image with few channels, as products of matrices on tensor cores where the input
// has three channels of 16 bits and the weights have its type, in float32 multiply-adds elsewhere.
//
// A thread block reads the input of a tile of outputs once, halo included, and makes all output channels from it, 32 at a
// time: memory traffic is the largest floor (benchmarks/NOTES.md).
#pragma once

#include <cstdint>

#include "cuda/stem/mma.cuh"
#include "cuda/stem/scalar.cuh"

namespace mnv2::cuda {

template <class Tile>
__global__ void __launch_bounds__(stem_threads, stem_mma_blocks_per_sm) stem_mma_kernel(StemArguments p)
{
    MNV2_DYNAMIC_SHARED(shared);
    for (int64_t tile = blockIdx.x; tile < p.tiles; tile += gridDim.x) {
        const StemPlace place = stem_place(p, tile, Tile::rows);
        __syncthreads();
        const uint8_t* const inputs =
            Tile::read(p.x, place.image, place.row * Tile::stride - p.padding_top, place.column * Tile::stride - p.padding_left,
                       shared, threadIdx.x, stem_threads);
        __syncthreads();
        for (int group = 0; group < p.groups; ++group) make_stem_group<Tile>(p, place, inputs, group);
    }
}

template <class Tile>
__global__ void __launch_bounds__(stem_threads, stem_scalar_blocks_per_sm) stem_scalar_kernel(StemArguments p)
{
    MNV2_DYNAMIC_SHARED(shared);
    const StemScalarThread<Tile> thread(shared);
    for (int64_t tile = blockIdx.x; tile < p.tiles; tile += gridDim.x) {
        const StemPlace place = stem_place(p, tile, Tile::rows);
        for (int group = 0; group < p.groups; ++group) make_stem_scalar_group<Tile>(p, thread, place, group);
    }
}

}  // namespace mnv2::cuda
