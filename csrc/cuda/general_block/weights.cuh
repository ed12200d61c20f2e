// Fetches what the phases of a step of general_block read.
#pragma once

#include "cuda/general_block/input.cuh"

namespace mnv2::cuda {

template <class Block>
__device__ void copy_weights(float* to, const float* from, int floats)
{
    for (int i = threadIdx.x * quad_channels; i < floats; i += Block::threads * quad_channels)
        ptx::cp_async16(to + i, from + i);
}

// The packed weights of a chunk.
__device__ inline const float* chunk_weights(const GeneralBlockArguments& p, int chunk)
{
    return p.packed + p.chunks_at + chunk * p.chunk_floats;
}

// A slab of the input, unless it stays in shared memory, and its expand layer's weights.
template <class Block>
__device__ void fetch_slab(const GeneralThread<Block>& t, const GeneralStep& step, int slab)
{
    const int first = slab * t.p.depth, depth = t.depth_of(slab);
    if (t.p.slabs > 1) fetch_input(t, t.input_slab(slab), t.p.layout.input_stride, first, depth, nullptr);
    for (int plane = 0; plane < step.planes; ++plane)
        copy_weights<Block>(t.expand_weights(plane, slab),
                            chunk_weights(t.p, step.chunk + plane) + (constant_rows + first) * chunk_channels,
                            depth * chunk_channels);
}

// What a step's first phase needs: weights of the expand layer or, without one, the input itself.
template <class Block>
__device__ void fetch_first(const GeneralThread<Block>& t, const GeneralStep& step)
{
    for (int plane = 0; plane < step.planes; ++plane) {
        const int chunk = step.chunk + plane;
        if (t.p.has_expand)
            copy_weights<Block>(t.expand_constants(plane), chunk_weights(t.p, chunk), constant_rows * chunk_channels);
        else
            fetch_input(t, t.expanded(plane), tile_stride, chunk * chunk_channels, chunk_channels, t.places());
    }
    if (t.p.has_expand) fetch_slab(t, step, 0);
    ptx::cp_async_commit();
}

// The rows of the projection's weights, as far as the tile has channels.
template <class Block>
__device__ void fetch_project(const GeneralThread<Block>& t, float* to, const float* from, int depth)
{
    const int row = round_up(t.p.out_channels, quad_channels), quads = divide_up(t.tile.channels, quad_channels);
    for (int i = threadIdx.x; i < depth * quads; i += Block::threads) {
        const int k = i / quads, channel = i % quads * quad_channels;
        ptx::cp_async16(to + k * t.columns() + channel, from + int64_t{k} * row + channel);
    }
}

template <class Block>
__device__ void fetch_depthwise(const GeneralThread<Block>& t, const GeneralStep& step)
{
    for (int plane = 0; plane < step.planes; ++plane)
        copy_weights<Block>(t.depthwise_weights(plane),
                            chunk_weights(t.p, step.chunk + plane) + expand_floats(t.p.in_channels, t.p.has_expand),
                            t.p.depthwise_rows * chunk_channels);
}

// The weights of the depthwise layer and of the projection.
template <class Block>
__device__ void fetch_rest(const GeneralThread<Block>& t, const GeneralStep& step)
{
    fetch_depthwise(t, step);
    for (int plane = 0; plane < step.planes; ++plane) {
        const int chunk = step.chunk + plane;
        const float* const from =
            chunk_weights(t.p, chunk) + expand_floats(t.p.in_channels, t.p.has_expand) + t.p.depthwise_rows * chunk_channels;
        fetch_project(t, t.project_weights(plane), from + t.tile.first_channel, round_up(t.channels_of(chunk), quad_channels));
    }
    ptx::cp_async_commit();
}

}  // namespace mnv2::cuda
