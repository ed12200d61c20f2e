// The depthwise convolution of a chunk: a warp slides down a column of pixels with a channel in each lane.
#pragma once

#include "cuda/general_block/tile.cuh"

namespace mnv2::cuda {

// The weights of a lane's channel.
struct ChannelFilter {
    float taps[kernel_taps], scale, bias;
    bool exists;  // a channel beyond the last is 0 even where the input is infinite
};

template <class Block>
__device__ ChannelFilter filter_of(const GeneralThread<Block>& t, int chunk, int plane)
{
    const float* const constants = t.depthwise_weights(plane) + t.lane;
    ChannelFilter filter;
#pragma unroll
    for (int i = 0; i < kernel_taps; ++i) filter.taps[i] = ptx::load_shared<float>(constants + i * chunk_channels);
    filter.scale = ptx::load_shared<float>(constants + kernel_taps * chunk_channels);
    filter.bias = ptx::load_shared<float>(constants + (kernel_taps + 1) * chunk_channels);
    filter.exists = t.lane < t.channels_of(chunk + plane);
    return filter;
}

// Loads the next rows of a column, so that they wait for memory together.
template <int count>
__device__ void load_rows(const GeneralBlockArguments& p, float (&rows)[count][kernel_size], const float*& from)
{
#pragma unroll
    for (int i = 0; i < count; ++i, from += p.halo_width * tile_stride)
#pragma unroll
        for (int x = 0; x < kernel_size; ++x) rows[i][x] = ptx::load_shared<float>(from + x * tile_stride);
}

__device__ inline float add_row(float sum, const float (&row)[kernel_size], const float* taps)
{
    return ptx::multiply_add(row[2], taps[2], ptx::multiply_add(row[1], taps[1], ptx::multiply_add(row[0], taps[0], sum)));
}

// Stores an output and goes on to the next row's.
__device__ inline void store_depthwise_out(const GeneralBlockArguments& p, const ChannelFilter& filter, float sum, float*& to)
{
    const float value = ptx::clamp(ptx::multiply_add(sum, filter.scale, filter.bias), p.clamp.low, p.clamp.high);
    ptx::store_shared(to, filter.exists ? value : 0.0f);
    to += p.tile_width * tile_stride;
}

__device__ inline void slide_by_one(const GeneralBlockArguments& p, const ChannelFilter& filter, const float* from, float* to)
{
    constexpr int rows_at_once = 4;
    float head[2][kernel_size];
    load_rows(p, head, from);
    float two = add_row(add_row(0.0f, head[0], filter.taps), head[1], filter.taps + 3);  // sums of two rows and of one
    float one = add_row(0.0f, head[1], filter.taps);
    const auto slide = [&](auto& rows) {
        load_rows(p, rows, from);
#pragma unroll
        for (const auto& row : rows) {
            store_depthwise_out(p, filter, add_row(two, row, filter.taps + 6), to);
            two = add_row(one, row, filter.taps + 3);
            one = add_row(0.0f, row, filter.taps);
        }
    };
    float rows[rows_at_once][kernel_size], last[1][kernel_size];
    int y = 0;
    for (; y + rows_at_once <= p.tile_height; y += rows_at_once) slide(rows);
    for (; y < p.tile_height; ++y) slide(last);
}

__device__ inline void slide_by_two(const GeneralBlockArguments& p, const ChannelFilter& filter, const float* from, float* to)
{
    float head[1][kernel_size];
    load_rows(p, head, from);
    float one = add_row(0.0f, head[0], filter.taps);
    for (int y = 0; y < p.tile_height; ++y) {
        float rows[2][kernel_size];
        load_rows(p, rows, from);
        store_depthwise_out(p, filter, add_row(add_row(one, rows[0], filter.taps + 3), rows[1], filter.taps + 6), to);
        one = add_row(0.0f, rows[1], filter.taps);
    }
}

// Makes a column of outputs: every row of the expanded tile is loaded once and goes into all the sums that it belongs to.
template <class Block>
__device__ void filter_strip(const GeneralThread<Block>& t, const ChannelFilter& filter, int plane, int strip)
{
    const GeneralBlockArguments& p = t.p;
    const int image = strip / p.tile_width, x = strip % p.tile_width;
    const float* const from = t.expanded(plane) + (image * p.halo_height * p.halo_width + x * p.stride) * tile_stride + t.lane;
    float* const to = t.depthwise_out(plane) + (image * p.tile_height * p.tile_width + x) * tile_stride + t.lane;
    if (p.stride == 1)
        slide_by_one(p, filter, from, to);
    else
        slide_by_two(p, filter, from, to);
}

template <class Block>
__device__ void convolve(const GeneralThread<Block>& t, const GeneralStep& step)
{
    const int strips = t.tile.images * t.p.tile_width;
    if constexpr (Block::spread) {
        for (int task = t.warp; task < strips * step.planes; task += Block::warps) {
            const int plane = task % step.planes;
            filter_strip(t, filter_of(t, step.chunk, plane), plane, task / step.planes);
        }
    } else {
        const ChannelFilter filter = filter_of(t, step.chunk, 0);
        for (int strip = t.warp; strip < strips; strip += Block::warps) filter_strip(t, filter, 0, strip);
    }
}

}  // namespace mnv2::cuda
