// The depthwise convolution of a chunk, with a channel in each lane.
#pragma once

#include "cuda/general_block/tile.cuh"

namespace mnv2::cuda {

// What a lane's channel makes of its sums.
struct ChannelScale {
    float scale, bias;
    bool exists;  // a channel beyond the last is 0 even where the input is infinite
};

template <class Block>
__device__ ChannelScale scale_of(const GeneralThread<Block>& t, int chunk, int plane)
{
    const float* const constants = t.depthwise_weights(plane) + (t.p.depthwise_rows - constant_rows) * chunk_channels + t.lane;
    return {ptx::load_shared<float>(constants), ptx::load_shared<float>(constants + chunk_channels),
            t.lane < t.channels_of(chunk + plane)};
}

// Stores an output and goes on to the next row's.
__device__ inline void store_depthwise_out(const GeneralBlockArguments& p, const ChannelScale& channel, float sum, float*& to)
{
    const float value = activate(p.depthwise, ptx::multiply_add(sum, channel.scale, channel.bias));
    ptx::store_shared(to, channel.exists ? value : 0.0f);
    to += p.tile_width * tile_stride;
}

// A strip is a column of outputs of one image: where its first window begins, and its first output.
template <class Block>
__device__ const float* strip_input(const GeneralThread<Block>& t, int plane, int strip)
{
    const GeneralBlockArguments& p = t.p;
    const int image = strip / p.tile_width, x = strip % p.tile_width;
    return t.expanded(plane) + (image * p.halo_height * p.halo_width + x * p.stride) * tile_stride + t.lane;
}

template <class Block>
__device__ float* strip_output(const GeneralThread<Block>& t, int plane, int strip)
{
    const GeneralBlockArguments& p = t.p;
    const int image = strip / p.tile_width, x = strip % p.tile_width;
    return t.depthwise_out(plane) + (image * p.tile_height * p.tile_width + x) * tile_stride + t.lane;
}

// --- 3x3: a warp slides down a column of pixels ---

// The weights of a lane's channel, for windows of 3x3.
struct ChannelFilter {
    ChannelScale channel;
    float taps[kernel_taps];
};

template <class Block>
__device__ ChannelFilter filter_of(const GeneralThread<Block>& t, int chunk, int plane)
{
    const float* const from = t.depthwise_weights(plane) + t.lane;
    ChannelFilter filter;
    filter.channel = scale_of(t, chunk, plane);
#pragma unroll
    for (int i = 0; i < kernel_taps; ++i) filter.taps[i] = ptx::load_shared<float>(from + i * chunk_channels);
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
            store_depthwise_out(p, filter.channel, add_row(two, row, filter.taps + 6), to);
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
        store_depthwise_out(p, filter.channel, add_row(add_row(one, rows[0], filter.taps + 3), rows[1], filter.taps + 6), to);
        one = add_row(0.0f, rows[1], filter.taps);
    }
}

// Makes a column of outputs: every row of the expanded tile is loaded once and goes into all the sums that it belongs to.
template <class Block>
__device__ void filter_strip(const GeneralThread<Block>& t, const ChannelFilter& filter, int plane, int strip)
{
    const GeneralBlockArguments& p = t.p;
    const float* const from = strip_input(t, plane, strip);
    float* const to = strip_output(t, plane, strip);
    if (p.stride == 1)
        slide_by_one(p, filter, from, to);
    else
        slide_by_two(p, filter, from, to);
}

template <class Block>
__device__ void convolve_3x3(const GeneralThread<Block>& t, const GeneralStep& step)
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

// --- 5x5 and 7x7: the taps are too many for registers, so that rows share their loads ---

// Rows of outputs that share each tap's load.
constexpr int window_rows = 4;

// Makes `rows` outputs below each other. A sum has its products in the same order whatever their number.
template <int kernel, int stride, int rows>
__device__ void filter_rows(const GeneralBlockArguments& p, const ChannelScale& channel, const float* taps, const float* from,
                            float*& to)
{
    constexpr int in_rows = (rows - 1) * stride + kernel;
    float sums[rows] = {};
#pragma unroll 1
    for (int x = 0; x < kernel; ++x) {
        float column[in_rows];
#pragma unroll
        for (int y = 0; y < in_rows; ++y) column[y] = ptx::load_shared<float>(from + (y * p.halo_width + x) * tile_stride);
#pragma unroll
        for (int y = 0; y < kernel; ++y) {
            const float tap = ptx::load_shared<float>(taps + (y * kernel + x) * chunk_channels);
#pragma unroll
            for (int row = 0; row < rows; ++row) sums[row] = ptx::multiply_add(column[row * stride + y], tap, sums[row]);
        }
    }
#pragma unroll
    for (int row = 0; row < rows; ++row) store_depthwise_out(p, channel, sums[row], to);
}

// Makes a column of outputs.
template <int kernel, int stride>
__device__ void filter_column(const GeneralBlockArguments& p, const ChannelScale& channel, const float* taps, const float* from,
                              float* to)
{
    const int row_floats = stride * p.halo_width * tile_stride;
    int y = 0;
    for (; y + window_rows <= p.tile_height; y += window_rows, from += window_rows * row_floats)
        filter_rows<kernel, stride, window_rows>(p, channel, taps, from, to);
    for (; y < p.tile_height; ++y, from += row_floats) filter_rows<kernel, stride, 1>(p, channel, taps, from, to);
}

template <int kernel, class Block>
__device__ void convolve_windows(const GeneralThread<Block>& t, const GeneralStep& step)
{
    const int strips = t.tile.images * t.p.tile_width;
    for (int task = t.warp; task < strips * step.planes; task += Block::warps) {
        const int plane = task % step.planes, strip = task / step.planes;
        const ChannelScale channel = scale_of(t, step.chunk, plane);
        const float* const taps = t.depthwise_weights(plane) + t.lane;
        if (t.p.stride == 1)
            filter_column<kernel, 1>(t.p, channel, taps, strip_input(t, plane, strip), strip_output(t, plane, strip));
        else
            filter_column<kernel, 2>(t.p, channel, taps, strip_input(t, plane, strip), strip_output(t, plane, strip));
    }
}

// --- every window ---

// In the place of a convolution: the input is the depthwise results of a gated block.
template <class Block>
__device__ void apply_factors(const GeneralThread<Block>& t, const GeneralStep& step)
{
    const GeneralBlockArguments& p = t.p;
    const int image_pixels = p.tile_height * p.tile_width;
    for (int plane = 0; plane < step.planes; ++plane) {
        const int chunk = step.chunk + plane, channel = chunk * chunk_channels + t.lane;
        const bool exists = t.lane < t.channels_of(chunk);
        for (int image = 0; image < t.tile.images; ++image) {
            const int64_t at = (t.tile.first_image + image) * p.expanded_channels + channel;
            const float factor = exists ? ptx::load_global_in_place<float>(p.factors + at) : 0.0f;
            for (int pixel = t.warp; pixel < image_pixels; pixel += Block::warps) {
                const int place = (image * image_pixels + pixel) * tile_stride + t.lane;
                const float value = ptx::load_shared<float>(t.expanded(plane) + place) * factor;
                ptx::store_shared(t.depthwise_out(plane) + place, exists ? value : 0.0f);
            }
        }
    }
}

template <class Block>
__device__ void convolve(const GeneralThread<Block>& t, const GeneralStep& step)
{
    switch (t.p.kernel) {
        case 1: return apply_factors(t, step);
        case 3: return convolve_3x3(t, step);
        case 5: return convolve_windows<5>(t, step);
        case 7: return convolve_windows<7>(t, step);
    }
}

}  // namespace mnv2::cuda
