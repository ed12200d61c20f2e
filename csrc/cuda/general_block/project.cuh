// Projects a step's depthwise outputs and adds them to the totals of the tile.
#pragma once

#include "cuda/general_block/product.cuh"

namespace mnv2::cuda {

template <class Block>
using GeneralTotals = GeneralSum<Block>[Block::parts];

// The sums of 32 output channels over the depths of one chunk.
template <class Block>
__device__ void project_part(const GeneralThread<Block>& t, GeneralSum<Block>& sum, int first_pixel, int part, int chunk,
                             int plane)
{
    const GeneralRows<Block> rows(t, t.depthwise_out(plane), tile_stride, first_pixel, t.output_pixels());
    multiply<Block>(sum, rows, t.project_weights(plane) + part * chunk_channels + t.channel_of(0), t.columns(),
                    round_up(t.channels_of(chunk + plane), quad_channels));
}

// Totals in registers: a warp has its own pixels and all columns.
template <class Block>
__device__ void project(const GeneralThread<Block>& t, int chunk, GeneralTotals<Block>& totals)
{
    const int first_pixel = t.warp * Block::warp_pixels;
    if (first_pixel >= t.output_pixels()) return;
#pragma unroll
    for (int part = 0; part < Block::parts; ++part) {
        if (part * chunk_channels >= t.tile.channels) break;
        GeneralSum<Block> sum = {};
        project_part<Block>(t, sum, first_pixel, part, chunk, 0);
        move_sums(sum, totals[part]);
    }
}

// Stores sums as rows of 32 channels, those of pixels before `end`.
template <class Block>
__device__ void put_rows(const GeneralThread<Block>& t, float* rows, int stride, int first_pixel, int end,
                         const GeneralSum<Block>& sum)
{
#pragma unroll
    for (int i = 0; i < Block::pixels; ++i) {
        const int pixel = first_pixel + i * pixel_lanes + t.pixel_lane;
        if (pixel >= end) continue;
#pragma unroll
        for (int q = 0; q < thread_quads; ++q)
            ptx::store_shared(rows + pixel * stride + t.channel_of(q), quad_of(sum[i] + q * quad_channels));
    }
}

// Stores the sums of every chunk in its own plane.
template <class Block>
__device__ void project_planes(const GeneralThread<Block>& t, const GeneralStep& step)
{
    const int parts = divide_up(t.tile.channels, chunk_channels), pixels = t.output_pixels(), planes = step.planes;
    const int tasks = divide_up(pixels, Block::warp_pixels) * parts * planes;
    for (int task = t.warp; task < tasks; task += Block::warps) {
        const int plane = task % planes, part = task / planes % parts;
        const int first_pixel = task / planes / parts * Block::warp_pixels;
        GeneralSum<Block> sum = {};
        project_part<Block>(t, sum, first_pixel, part, step.chunk, plane);
        put_rows<Block>(t, t.partials(plane) + part * chunk_channels, t.p.layout.row, first_pixel, pixels, sum);
    }
}

// Adds the planes to the totals in shared memory, one after another.
template <class Block>
__device__ void add_planes(const GeneralThread<Block>& t, const GeneralStep& step)
{
    const int quads = round_up(t.tile.channels, chunk_channels) / quad_channels;
    for (int i = threadIdx.x; i < t.output_pixels() * quads; i += Block::threads) {
        const int at = i / quads * t.p.layout.row + i % quads * quad_channels;
        float4 total = step.chunk == 0 ? float4{} : ptx::load_shared<float4>(t.totals() + at);
        for (int plane = 0; plane < step.planes; ++plane) total = add(total, ptx::load_shared<float4>(t.partials(plane) + at));
        ptx::store_shared(t.totals() + at, total);
    }
}

}  // namespace mnv2::cuda
