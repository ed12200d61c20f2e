// The products of general_block in registers, a thread's pixels by its channels of a chunk.
#pragma once

#include "cuda/common/quads.cuh"
#include "cuda/general_block/tile.cuh"

namespace mnv2::cuda {

template <class Block>
using GeneralSum = float[Block::pixels][thread_quads * quad_channels];

// Where the rows of a thread's pixels lie. Pixels beyond the last read the last one's.
template <class Block>
struct GeneralRows {
    const float* at[Block::pixels];

    __device__ __forceinline__ GeneralRows(const GeneralThread<Block>& t, const float* rows, int stride, int first_pixel,
                                           int end)
    {
#pragma unroll
        for (int i = 0; i < Block::pixels; ++i)
            at[i] = rows + min(first_pixel + i * pixel_lanes + t.pixel_lane, end - 1) * stride;
    }
};

// sum += rows times weights. Rows are contiguous by depth. Depths of the weights are weight_stride apart, and the quads of a
// thread are neighbours.
template <class Block>
__device__ __forceinline__ void multiply(GeneralSum<Block>& sum, const GeneralRows<Block>& rows, const float* weights,
                                         int weight_stride, int depth)
{
#pragma unroll 2
    for (int k = 0; k < depth; k += quad_channels) {
        float values[Block::pixels][quad_channels];
#pragma unroll
        for (int i = 0; i < Block::pixels; ++i) set_quad(values[i], ptx::load_shared<float4>(rows.at[i] + k));
#pragma unroll
        for (int j = 0; j < quad_channels; ++j, weights += weight_stride) {
#pragma unroll
            for (int q = 0; q < thread_quads; ++q) {
                const float4 w = ptx::load_shared<float4>(weights + q * quad_channels);
#pragma unroll
                for (int i = 0; i < Block::pixels; ++i) {
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
