// Expands a tile's input pixels to a chunk of channels, slab by slab.
#pragma once

#include "cuda/general_block/product.cuh"
#include "cuda/general_block/weights.cuh"

namespace mnv2::cuda {

// Adds a slab's sums to the expanded tile, which holds those of the earlier slabs; the last slab completes it.
template <class Block>
__device__ void add_to_expanded(const GeneralThread<Block>& t, int first_pixel, int plane, int slab,
                                const GeneralSum<Block>& sum)
{
#pragma unroll
    for (int q = 0; q < thread_quads; ++q) {
        const int channel = t.channel_of(q);
        const float* const constants = t.expand_constants(plane) + channel;
        const float4 scale = ptx::load_shared<float4>(constants);
        const float4 bias = ptx::load_shared<float4>(constants + chunk_channels);
#pragma unroll
        for (int i = 0; i < Block::pixels; ++i) {
            const int pixel = first_pixel + i * pixel_lanes + t.pixel_lane;
            if (pixel >= t.tile.pixels) continue;
            float* const to = t.expanded(plane) + t.places()[pixel] * tile_stride + channel;
            float4 value = quad_of(sum[i] + q * quad_channels);
            if (slab > 0) value = add(value, ptx::load_shared<float4>(to));
            if (slab + 1 == t.p.slabs) value = activate(t.p.expand, value, scale, bias);
            ptx::store_shared(to, value);
        }
    }
}

template <class Block>
__device__ void expand_slab(const GeneralThread<Block>& t, int first_pixel, int plane, int slab)
{
    const GeneralRows<Block> rows(t, t.input_slab(slab), t.p.layout.input_stride, first_pixel, t.tile.pixels);
    GeneralSum<Block> sum = {};
    multiply<Block>(sum, rows, t.expand_weights(plane, slab) + t.channel_of(0), chunk_channels, t.depth_of(slab));
    add_to_expanded<Block>(t, first_pixel, plane, slab, sum);
}

template <class Block>
__device__ void expand(const GeneralThread<Block>& t, const GeneralStep& step)
{
    const int tasks = divide_up(t.tile.pixels, Block::warp_pixels) * step.planes;
    for (int slab = 0; slab < t.p.slabs; ++slab) {
        if (slab > 0) {
            ptx::cp_async_wait<0>();
            __syncthreads();
        }
        if (slab + 1 < t.p.slabs) {
            fetch_slab(t, step, slab + 1);
            ptx::cp_async_commit();
        }
        for (int task = t.warp; task < tasks; task += Block::warps)
            expand_slab(t, task / step.planes * Block::warp_pixels, task % step.planes, slab);
    }
}

}  // namespace mnv2::cuda
