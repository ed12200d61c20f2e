// A block with a gate, in passes, since a gate is made of the means of all pixels of what it multiplies:
//
//   1. expand and depthwise convolution by general_block's phases, a chunk of channels of a tile at a time. The depthwise
//      results are stored, and beside them each tile's sums of its pixels.
//   2. squeeze, a warp for each of its channels, on the means; then excite, a thread for each: factors of each image and
//   channel.
//   3. general_block's projection of the depthwise results times these factors.
//
// Sums of pixels are taken in an order that images alone decide: within a tile by warps, then tile after tile.
//
// Packed weights, all float: general_block's format without a projection, the same with nothing but the projection, then
// weights and biases of squeeze and excite, whose weights both lie by squeezed channels.
#pragma once

#include <cstdint>

#include "core/sums.h"
#include "cuda/gated_block/config.h"
#include "cuda/general_block/depthwise.cuh"
#include "cuda/general_block/expand.cuh"
#include "cuda/general_block/weights.cuh"

namespace mnv2::cuda {

// Stores a chunk's depthwise results, a channel in each lane, and leaves the sums of the warp's pixels in shared memory.
template <class Block>
__device__ void store_depthwise(const GeneralThread<Block>& t, int chunk)
{
    const GeneralBlockArguments& p = t.p;
    const bool exists = t.lane < t.channels_of(chunk);
    const int pixels = t.output_pixels(), channel = chunk * chunk_channels + t.lane;
    float sum = 0.0f;
    with_type(p.type, [&]<class T>() {
        for (int pixel = t.warp; pixel < pixels; pixel += Block::warps) {
            const int y = t.tile.out_y + pixel / p.tile_width, x = t.tile.out_x + pixel % p.tile_width;
            if (y >= p.out_height || x >= p.out_width || !exists) continue;
            const float value = ptx::load_shared<float>(t.depthwise_out(0) + pixel * tile_stride + t.lane);
            const int64_t at = (t.tile.first_image * p.out_height + y) * p.out_width + x;
            store_number(static_cast<T*>(p.output) + at * p.expanded_channels + channel, value);
            sum += value;
        }
    });
    ptx::store_shared(t.partials(0) + t.warp * chunk_channels + t.lane, sum);
}

// Adds up the warps' sums of a chunk.
template <class Block>
__device__ void store_sums(const GeneralThread<Block>& t, int chunk, float* sums)
{
    const GeneralBlockArguments& p = t.p;
    if (t.warp > 0 || t.lane >= t.channels_of(chunk)) return;
    float sum = 0.0f;
#pragma unroll
    for (int warp = 0; warp < Block::warps; ++warp)
        sum += ptx::load_shared<float>(t.partials(0) + warp * chunk_channels + t.lane);
    const int tile = t.tile.out_y / p.tile_height * p.tile_columns + t.tile.out_x / p.tile_width;
    const int64_t image_tiles = int64_t{p.tile_rows} * p.tile_columns;
    const int64_t at = (t.tile.first_image * image_tiles + tile) * p.expanded_channels + chunk * chunk_channels + t.lane;
    ptx::store_global(sums + at, sum);
}

// Makes a chunk of a tile, and fetches what the next one's first phase needs.
template <class Block>
__device__ void make_gated_chunk(const GeneralThread<Block>& t, int chunk, int end, float* sums)
{
    const GeneralStep step{chunk, 1};
    ptx::cp_async_wait<0>();
    ptx::block_barrier();  // the chunk's input is here; the depthwise weights and the sums of the last one are free
    fetch_depthwise(t, step);
    ptx::cp_async_commit();
    if (t.p.has_expand) expand(t, step);
    ptx::cp_async_wait<0>();
    ptx::block_barrier();  // the expanded tile is complete, and the depthwise weights are here
    convolve(t, step);
    ptx::block_barrier();  // the depthwise results are complete; the expanded tile and the expand's weights are free
    if (chunk + 1 < end) fetch_first(t, {chunk + 1, 1});
    store_depthwise(t, chunk);
    ptx::block_barrier();
    store_sums(t, chunk, sums);
}

template <class Block>
__global__ void __launch_bounds__(Block::threads, Block::blocks_per_sm) gated_depthwise_kernel(GatedDepthwiseArguments p)
{
    MNV2_DYNAMIC_SHARED(shared);
    auto& tile = *reinterpret_cast<GeneralTile*>(shared);
    const GeneralThread<Block> t{p.block, reinterpret_cast<float*>(shared), tile};
    begin_tiles(tile);
    while (next_tile(p.block, tile)) {
        place_input(t);
        zero_halo(t);
        __syncthreads();
        fetch_resident_input(t);
        const int first = tile.first_channel / chunk_channels, end = first + divide_up(tile.channels, chunk_channels);
        fetch_first(t, {first, 1});
        for (int chunk = first; chunk < end; ++chunk) make_gated_chunk(t, chunk, end, p.sums);
    }
}

// The means of an image's channels from `first` on.
__device__ inline void load_means(const GateArguments& p, int64_t image, int first, int count, float* means)
{
    for (int i = threadIdx.x; i < count; i += gate_threads) {
        const float* const from = p.sums + image * p.tiles * p.expanded_channels + first + i;
        float sum = 0.0f;
        for (int64_t tile = 0; tile < p.tiles; ++tile)
            sum += ptx::load_global_in_place<float>(from + tile * p.expanded_channels);
        ptx::store_shared(means + i, sum / p.pixels);
    }
}

// A warp makes a squeezed channel; a lane takes every 32nd mean.
__device__ inline float squeeze_channel(const GateArguments& p, int64_t image, int channel, float* means)
{
    const int lane = threadIdx.x % 32;
    float total = 0.0f;
    for (int first = 0; first < p.expanded_channels; first += gate_means) {
        const int count = min(gate_means, p.expanded_channels - first);
        ptx::block_barrier();  // the last means are read
        load_means(p, image, first, count, means);
        ptx::block_barrier();
        if (channel >= p.squeezed_channels) continue;
        const float* const weights = p.squeeze_weights + int64_t{channel} * p.expanded_channels + first;
        float sum = 0.0f;
        for (int i = lane; i < count; i += 32)
            sum = ptx::multiply_add(ptx::load_shared<float>(means + i), ptx::load_global_in_place<float>(weights + i), sum);
        total += sum;
    }
    for (int mask = 16; mask > 0; mask /= 2) total += ptx::shuffle_xor(total, mask);
    return total;
}

__device__ inline void squeeze(const GateArguments& p, float* means)
{
    const int groups = divide_up(p.squeezed_channels, gate_warps), warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (int64_t task = blockIdx.x; task < p.batch * groups; task += gridDim.x) {
        const int64_t image = task / groups;
        const int channel = static_cast<int>(task % groups) * gate_warps + warp;
        const float sum = squeeze_channel(p, image, channel, means);
        if (lane > 0 || channel >= p.squeezed_channels) continue;
        const float biased = sum + ptx::load_global_in_place<float>(p.squeeze_bias + channel);
        ptx::store_global(p.squeezed + image * p.squeezed_channels + channel, activate(p.squeeze, biased));
    }
}

__global__ void __launch_bounds__(gate_threads) gate_squeeze_kernel(GateArguments p)
{
    MNV2_DYNAMIC_SHARED(shared);
    squeeze(p, reinterpret_cast<float*>(shared));
}

// The sum of an excited channel, in runs.
__device__ inline float excite_channel(const GateArguments& p, int64_t image, int channel)
{
    const float* const squeezed = p.squeezed + image * p.squeezed_channels;
    float total = 0.0f;
    for (int first = 0; first < p.squeezed_channels; first += sum_depth) {
        const int end = min(first + static_cast<int>(sum_depth), p.squeezed_channels);
        float sum = 0.0f;
        for (int i = first; i < end; ++i) {
            const float* const weight = p.excite_weights + int64_t{i} * p.expanded_channels + channel;
            sum = ptx::multiply_add(ptx::load_global_in_place<float>(squeezed + i), ptx::load_global_in_place<float>(weight),
                                    sum);
        }
        total += sum;
    }
    return total;
}

__global__ void __launch_bounds__(gate_threads) gate_excite_kernel(GateArguments p)
{
    const int groups = divide_up(p.expanded_channels, gate_threads);
    for (int64_t task = blockIdx.x; task < p.batch * groups; task += gridDim.x) {
        const int64_t image = task / groups;
        const int channel = static_cast<int>(task % groups) * gate_threads + static_cast<int>(threadIdx.x);
        if (channel >= p.expanded_channels) continue;
        const float sum = excite_channel(p, image, channel) + ptx::load_global_in_place<float>(p.excite_bias + channel);
        const float factor = p.excite == GateActivation::sigmoid ? sigmoid(sum) : hardsigmoid(sum);
        ptx::store_global(p.factors + image * p.expanded_channels + channel, factor);
    }
}

}  // namespace mnv2::cuda
