// What a thread block of general_block works on, and where a thread finds it in shared memory.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda/common/activate.cuh"
#include "cuda/common/ptx.cuh"
#include "cuda/common/quads.cuh"
#include "cuda/general_block/config.h"

namespace mnv2::cuda {

__device__ inline GeneralTile tile_of(const GeneralBlockArguments& p, int64_t block)
{
    GeneralTile tile;
    tile.block = block;
    tile.first_channel = static_cast<int>(block % p.slices) * p.slice_channels;
    tile.channels = min(p.slice_channels, p.out_channels - tile.first_channel);
    block /= p.slices;
    tile.out_x = static_cast<int>(block % p.tile_columns) * p.tile_width;
    block /= p.tile_columns;
    tile.out_y = static_cast<int>(block % p.tile_rows) * p.tile_height;
    tile.first_image = block / p.tile_rows * p.images;
    const int64_t images_left = p.batch - tile.first_image;
    tile.images = images_left < p.images ? static_cast<int>(images_left) : p.images;

    const int in_y = tile.out_y * p.stride - p.padding_top, in_x = tile.out_x * p.stride - p.padding_left;
    tile.top = max(in_y, 0);
    tile.left = max(in_x, 0);
    tile.bottom = min(in_y + p.halo_height, p.height);
    tile.right = min(in_x + p.halo_width, p.width);
    tile.pixels = tile.images * (tile.bottom - tile.top) * (tile.right - tile.left);
    return tile;
}

// Begins before the first tile.
__device__ inline void begin_tiles(GeneralTile& tile)
{
    if (threadIdx.x == 0) tile.block = static_cast<int64_t>(blockIdx.x) - gridDim.x;
}

// Goes on to the thread block's next tile, if there is one.
__device__ inline bool next_tile(const GeneralBlockArguments& p, GeneralTile& tile)
{
    __syncthreads();  // the previous tile is done
    if (threadIdx.x == 0) {
        const int64_t block = tile.block + gridDim.x;
        tile = tile_of(p, block < p.blocks ? block : p.blocks);
    }
    __syncthreads();
    return tile.block < p.blocks;
}

// The chunks that are worked on at a time; each has a plane in shared memory.
struct GeneralStep {
    int chunk, planes;
};

// A thread's place in its block, and the block's work.
template <class Block>
struct GeneralThread {
    const GeneralBlockArguments& p;
    float* const shared;
    const GeneralTile& tile;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    // Neighbours that differ in bit 0 load the same pixel, and in bit 1 the same weights: pairs of lanes that share 16
    // bytes let shared memory serve half a warp at a time. Eight neighbours store to all banks: four pixels, each
    // at two places 16 channels apart.
    const int pixel_lane = lane / 2 % pixel_lanes, channel_lane = lane % 2 * 2 + lane / 16;
    const int chunks = divide_up(p.expanded_channels, chunk_channels);

    __device__ GeneralStep step_from(int chunk) const { return {chunk, Block::spread ? min(p.planes, chunks - chunk) : 1}; }
    __device__ int channels_of(int chunk) const { return min(chunk_channels, p.expanded_channels - chunk * chunk_channels); }
    __device__ int depth_of(int slab) const { return min(p.depth, round_up(p.in_channels, quad_channels) - slab * p.depth); }
    __device__ int output_pixels() const { return tile.images * p.tile_height * p.tile_width; }

    // Where the thread's quads of channels begin in a chunk. As a first channel and a rest ptxas spills registers (sm_80).
    __device__ int channel_of(int quad) const { return (channel_lane * thread_quads + quad) * quad_channels; }

    // Distance from one depth of the projection's weights to the next.
    __device__ int columns() const { return Block::spread ? p.slice_channels : Block::columns; }

    __device__ int64_t* sources() const { return reinterpret_cast<int64_t*>(shared + p.layout.sources); }
    __device__ int* places() const { return reinterpret_cast<int*>(shared + p.layout.places); }
    __device__ float* input_slab(int slab) const { return shared + p.layout.input + slab % 2 * p.layout.input_slab; }
    __device__ float* expand_constants(int plane) const
    {
        return shared + p.layout.expand_constants + plane * constant_rows * chunk_channels;
    }
    __device__ float* expand_weights(int plane, int slab) const
    {
        return shared + p.layout.expand_weights + slab % 2 * p.layout.expand_slab + plane * p.depth * chunk_channels;
    }
    __device__ float* depthwise_weights(int plane) const
    {
        return shared + p.layout.depthwise + plane * p.depthwise_rows * chunk_channels;
    }
    __device__ float* project_weights(int plane) const
    {
        return shared + p.layout.project + plane * chunk_channels * columns();
    }
    __device__ float* expanded(int plane) const { return shared + p.layout.expanded + plane * p.layout.expanded_plane; }
    __device__ float* depthwise_out(int plane) const
    {
        return shared + p.layout.depthwise_out + plane * p.layout.depthwise_out_plane;
    }
    __device__ float* partials(int plane) const { return shared + p.layout.partials + plane * p.layout.partial_plane; }
    __device__ float* totals() const { return shared + p.layout.totals; }
};

__device__ __forceinline__ float4 add(const float4& a, const float4& b)
{
    return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w};
}

}  // namespace mnv2::cuda
