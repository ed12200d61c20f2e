// The inverted residual of any shape, in float32 arithmetic whatever the tensors' type. It serves float32, and every block that
// no kernel on tensor cores serves.
//
// A thread block makes a tile of output pixels, of one image or of several small ones, and a slice of the output channels.
// For each chunk of 32 expanded channels it expands the tile's input pixels into shared memory, where pixels outside the
// image are zero, takes the depthwise convolution from there to a second tile, and projects that into registers. Both matrix
// products are tiled in registers: a thread has `pixels` pixels, eight apart, and 8 channels in two quads.
//
// A sum never has more than 191 depths in a row: the projection adds a chunk's 32 to its totals; an expand of 192 input
// channels or more adds up slabs of 32, which it streams through shared memory, while fewer stay there. So every output is
// added up in the same order, whatever the tile.
//
// Packed weights, all float: the projection's scales and biases, then the chunks. Rows of a chunk have 32 channels: scale
// and bias of the expand and its weights, by depth; taps, scale and bias of the depthwise convolution; then 32 rows of
// the projection, by depth. Channels and depths are rounded up to four with zeros.
#pragma once

#include <cstdint>

#include "cuda/general_block/depthwise.cuh"
#include "cuda/general_block/expand.cuh"
#include "cuda/general_block/project.cuh"
#include "cuda/general_block/store.cuh"
#include "cuda/general_block/weights.cuh"

namespace mnv2::cuda {

// Makes the chunks of a step, and fetches what the next step's first phase needs.
template <class Block>
__device__ void make_step(const GeneralThread<Block>& t, const GeneralStep& step, GeneralTotals<Block>& totals)
{
    ptx::cp_async_wait<0>();
    __syncthreads();  // the chunks' input is here, and the weights of the last projection are free
    fetch_rest(t, step);
    if (t.p.has_expand) expand(t, step);
    ptx::cp_async_wait<0>();
    __syncthreads();  // the expanded tile is complete, and the rest of the weights here
    convolve(t, step);
    __syncthreads();  // the depthwise outputs are complete; the expanded tile and the expand's weights are free
    const int next = step.chunk + step.planes;
    if (next < t.chunks) fetch_first(t, t.step_from(next));
    if constexpr (Block::spread) {
        project_planes(t, step);
        __syncthreads();
        add_planes(t, step);
    } else {
        project<Block>(t, step.chunk, totals);
    }
}

template <class Block>
__global__ void __launch_bounds__(Block::threads, Block::blocks_per_sm) general_block_kernel(GeneralBlockArguments p)
{
    MNV2_DYNAMIC_SHARED(shared);
    auto& tile = *reinterpret_cast<GeneralTile*>(shared);
    const GeneralThread<Block> t{p, reinterpret_cast<float*>(shared), tile};
    begin_tiles(tile);
    while (next_tile(p, tile)) {
        place_input(t);
        zero_halo(t);
        __syncthreads();
        fetch_resident_input(t);
        fetch_first(t, t.step_from(0));
        GeneralTotals<Block> totals = {};
        for (GeneralStep step = t.step_from(0); step.chunk < t.chunks; step = t.step_from(step.chunk + step.planes))
            make_step<Block>(t, step, totals);
        if constexpr (Block::spread) {
            __syncthreads();
            store_spread(t);
        } else {
            store<Block>(t, totals);
        }
    }
}

}  // namespace mnv2::cuda
