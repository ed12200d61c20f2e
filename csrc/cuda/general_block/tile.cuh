// What a thread block of general_block works on, and the product of its tiles.
#pragma once

#include <cstdint>

#include "cuda/common/ptx.cuh"
#include "cuda/common/quads.cuh"
#include "cuda/general_block/config.h"

namespace mnv2::cuda {

__device__ inline GeneralTile tile_of(const GeneralBlockArguments& p, int64_t block)
{
    GeneralTile tile;
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

__device__ __forceinline__ float activate(const Clamp& clamp, float value)
{
    return ptx::clamp(value, clamp.low, clamp.high);
}

// Calls visit with a null pointer to the type.
template <class Visit>
__device__ __forceinline__ void visit_type(ScalarType type, const Visit& visit)
{
    switch (type) {
        case ScalarType::float32: return visit(static_cast<float*>(nullptr));
        case ScalarType::float16: return visit(static_cast<__half*>(nullptr));
        case ScalarType::bfloat16: return visit(static_cast<__nv_bfloat16*>(nullptr));
    }
}

// sum += rows times weights. Rows are contiguous by depth. Depths of the weights are weight_stride apart, and the quads of a
// thread are neighbours.
template <int pixels>
__device__ __forceinline__ void multiply(float (&sum)[pixels][thread_quads * quad_channels], const float* const (&rows)[pixels],
                                         const float* weights, int weight_stride, int depth)
{
#pragma unroll 2
    for (int k = 0; k < depth; k += quad_channels) {
        float values[pixels][quad_channels];
#pragma unroll
        for (int i = 0; i < pixels; ++i) {
            const float4 loaded = ptx::load_shared<float4>(rows[i] + k);
            values[i][0] = loaded.x;
            values[i][1] = loaded.y;
            values[i][2] = loaded.z;
            values[i][3] = loaded.w;
        }
#pragma unroll
        for (int j = 0; j < quad_channels; ++j, weights += weight_stride) {
#pragma unroll
            for (int q = 0; q < thread_quads; ++q) {
                const float4 w = ptx::load_shared<float4>(weights + q * quad_channels);
#pragma unroll
                for (int i = 0; i < pixels; ++i) {
                    float* const to = sum[i] + q * quad_channels;
                    to[0] = ptx::multiply_add(values[i][j], w.x, to[0]);
                    to[1] = ptx::multiply_add(values[i][j], w.y, to[1]);
                    to[2] = ptx::multiply_add(values[i][j], w.z, to[2]);
                    to[3] = ptx::multiply_add(values[i][j], w.w, to[3]);
                }
            }
        }
    }
}

}  // namespace mnv2::cuda
