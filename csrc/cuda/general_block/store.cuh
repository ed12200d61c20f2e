// Scales, activates and stores the totals of a tile, with the shortcut.
#pragma once

#include <cstdint>

#include "cuda/common/quads.cuh"
#include "cuda/general_block/project.cuh"

namespace mnv2::cuda {

constexpr int row_quads = chunk_channels / quad_channels, rows_per_warp = 32 / row_quads;

// Four channels of an output pixel; with a shortcut, input and output have the same shape.
__device__ inline void store_pixel(const GeneralBlockArguments& p, int64_t pixel, int channel, const float4& sums)
{
    const float* const constants = p.packed + channel;
    float4 values =
        activate(p.project, sums, load_quad(constants), load_quad(constants + round_up(p.out_channels, quad_channels)));
    with_type(p.type, [&]<class T>() {
        const int64_t first = pixel * p.out_channels;
        if (p.residual) values = add(values, load_channels(static_cast<const T*>(p.shortcut) + first, channel, p.out_channels));
        store_channels(static_cast<T*>(p.output) + first, channel, p.out_channels, values);
    });
}

// Stores rows of 32 channels: the warp takes rows_per_warp pixels from first_pixel on, then as many `step` pixels further.
template <class Block>
__device__ void store_part(const GeneralThread<Block>& t, const float* rows, int stride, int first_channel, int first_pixel,
                           int end, int step)
{
    const GeneralBlockArguments& p = t.p;
    const GeneralTile& tile = t.tile;
    const int channel = first_channel + t.lane % row_quads * quad_channels;
    if (channel >= tile.channels) return;
    for (int pixel = first_pixel + t.lane / row_quads; pixel < end; pixel += step) {
        const int x = tile.out_x + pixel % p.tile_width, row = pixel / p.tile_width;
        const int y = tile.out_y + row % p.tile_height, image = row / p.tile_height;
        if (y >= p.out_height || x >= p.out_width) continue;
        store_pixel(p, ((tile.first_image + image) * p.out_height + y) * p.out_width + x, tile.first_channel + channel,
                    ptx::load_shared<float4>(rows + pixel * stride + t.lane % row_quads * quad_channels));
    }
}

// Stores through the warp's own rows of the depthwise outputs, so that whole rows of channels go to memory together.
template <class Block>
__device__ void store(const GeneralThread<Block>& t, const GeneralTotals<Block>& totals)
{
    const int first_pixel = t.warp * Block::warp_pixels, end = min(first_pixel + Block::warp_pixels, t.output_pixels());
#pragma unroll
    for (int part = 0; part < Block::parts; ++part) {
        if (part * chunk_channels >= t.tile.channels) break;
        __syncwarp();  // the rows' earlier content is read
        put_rows<Block>(t, t.depthwise_out(0), tile_stride, first_pixel, end, totals[part]);
        __syncwarp();
        store_part(t, t.depthwise_out(0), tile_stride, part * chunk_channels, first_pixel, end, rows_per_warp);
    }
}

template <class Block>
__device__ void store_spread(const GeneralThread<Block>& t)
{
    for (int first_channel = 0; first_channel < t.tile.channels; first_channel += chunk_channels)
        store_part(t, t.totals() + first_channel, t.p.layout.row, first_channel, t.warp * rows_per_warp, t.output_pixels(),
                   Block::warps * rows_per_warp);
}

}  // namespace mnv2::cuda
