// The stem: a dense 3x3 convolution of an image with few channels, as products of matrices on tensor cores where the input
// has three channels of 16 bits and the weights have its type, in float32 multiply-adds elsewhere.
//
// A thread block reads the input of a tile of outputs once, halo included, and makes all output channels from it, 32 at a
// time: memory traffic is the largest floor (benchmarks/NOTES.md).
#pragma once

#include <cstdint>

#include "core/sums.h"
#include "cuda/common/ptx.cuh"
#include "cuda/common/quads.cuh"
#include "cuda/stem/config.h"

namespace mnv2::cuda {

// Where a tile's outputs start.
struct StemPlace {
    int64_t image;
    int row, column;
};

__device__ __forceinline__ StemPlace stem_place(const StemArguments& p, int64_t tile, int rows)
{
    const int64_t tiles_per_image = static_cast<int64_t>(p.tile_rows) * p.tile_columns;
    const auto at = static_cast<int>(tile % tiles_per_image);
    return {tile / tiles_per_image, at / p.tile_columns * rows, at % p.tile_columns * stem_tile_columns};
}

// The address of an output pixel, which exists.
template <class T>
__device__ __forceinline__ T* stem_output(const StemArguments& p, int64_t image, int row, int column)
{
    return static_cast<T*>(p.y) + ((image * p.out_height + row) * p.out_width + column) * p.out_channels;
}

// --- on tensor cores -----------------------------------------------------------------------------------------------------

template <class T, int stride>
__global__ void __launch_bounds__(stem_threads, stem_mma_blocks_per_sm) stem_mma_kernel(StemArguments p)
{
    using Tile = StemMmaTile<T, stride>;
    MNV2_DYNAMIC_SHARED(shared);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, pixel = lane / 4, quad = lane % 4;
    const uint32_t low = ptx::pack2<T>(p.clamp.low, p.clamp.low), high = ptx::pack2<T>(p.clamp.high, p.clamp.high);
    for (int64_t tile = blockIdx.x; tile < p.tiles; tile += gridDim.x) {
        const StemPlace place = stem_place(p, tile, Tile::rows);
        __syncthreads();
        const uint8_t* const inputs = Tile::read(p.x, place.image, place.row * stride - p.padding_top,
                                                 place.column * stride - p.padding_left, shared, threadIdx.x, stem_threads);
        __syncthreads();
        for (int group = 0; group < p.groups; ++group) {
            StemFragments weights;
            weights.load(p.packed + static_cast<int64_t>(group) * StemFragments::words, lane);
            const int channel = group * stem_group_channels + quad * 8;
            for (int row = warp; row < Tile::rows; row += stem_warps) {
                uint32_t windows[2][stem_slots];
                float sums[stem_column_tiles][4];
                Tile::load_window(inputs, row, pixel, quad, windows[0]);
                Tile::load_window(inputs, row, pixel + 8, quad, windows[1]);
                __syncwarp();
                weights.convolve<T>(windows[0], windows[1], sums);
                const int y = place.row + row;
#pragma unroll
                for (int i = 0; i < 2; ++i) {
                    const int x = place.column + pixel + i * 8;
                    if (y >= p.out_height || x >= p.out_width || channel >= p.out_channels) continue;
                    uint32_t pairs[stem_column_tiles];
#pragma unroll
                    for (int n = 0; n < stem_column_tiles; ++n)
                        pairs[n] = ptx::min2<T>(ptx::max2<T>(ptx::pack2<T>(sums[n][2 * i], sums[n][2 * i + 1]), low), high);
                    ptx::store_global(stem_output<T>(p, place.image, y, x) + channel,
                                      uint4{pairs[0], pairs[1], pairs[2], pairs[3]});
                }
            }
        }
    }
}

// --- in multiply-adds: any channels and types ------------------------------------------------------------------------------
//
// Packed weights: for every 32 output channels their scales, their biases, and the weights of each depth in the order
// (channel, ky, kx). A thread makes some rows of one column, in 16 of the channels: a warp's lanes have 16 columns and
// two halves of the channels, which take turns of four.

// Adds the products of one input channel; x points at the thread's first window.
template <class Tile>
__device__ __forceinline__ void add_stem_channel(const float* x, const float* weights,
                                                 float (&sums)[Tile::thread_rows][stem_thread_channels])
{
#pragma unroll
    for (int kx = 0; kx < 3; ++kx) {
        float column[Tile::thread_in_rows];
#pragma unroll
        for (int y = 0; y < Tile::thread_in_rows; ++y) column[y] = x[y * Tile::in_columns + kx];
#pragma unroll
        for (int ky = 0; ky < 3; ++ky) {
            const float* const tap = weights + (ky * 3 + kx) * stem_group_channels;
#pragma unroll
            for (int i = 0; i < stem_thread_channels / 4; ++i) {
                const float4 w = *reinterpret_cast<const float4*>(tap + i * 8);
#pragma unroll
                for (int row = 0; row < Tile::thread_rows; ++row) {
                    const float value = column[row * Tile::stride + ky];
                    sums[row][i * 4] += w.x * value;
                    sums[row][i * 4 + 1] += w.y * value;
                    sums[row][i * 4 + 2] += w.z * value;
                    sums[row][i * 4 + 3] += w.w * value;
                }
            }
        }
    }
}

template <class X, int stride, bool is_long>
__global__ void __launch_bounds__(stem_threads, stem_scalar_blocks_per_sm) stem_scalar_kernel(StemArguments p)
{
    using Tile = StemScalarTile<stride, is_long>;
    MNV2_DYNAMIC_SHARED(shared);
    float* const weights = reinterpret_cast<float*>(shared);
    float* const inputs = reinterpret_cast<float*>(shared + Tile::weight_bytes);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, column = lane / 2, half = lane % 2;
    const int first_row = warp * Tile::thread_rows;
    const float* const window = inputs + first_row * stride * Tile::in_columns + column * stride;
    const int64_t depth = static_cast<int64_t>(p.in_channels) * kernel_taps;
    const int64_t group_words = (depth + 2) * stem_group_channels;
    const bool read_once = p.in_channels <= stem_chunk_channels;

    for (int64_t tile = blockIdx.x; tile < p.tiles; tile += gridDim.x) {
        const StemPlace place = stem_place(p, tile, Tile::rows);
        for (int group = 0; group < p.groups; ++group) {
            const float* const packed = reinterpret_cast<const float*>(p.packed) + group * group_words;
            float sums[Tile::thread_rows][stem_thread_channels] = {};
            float totals[Tile::thread_rows][stem_thread_channels] = {};
            int run = 0;
            for (int channel = 0; channel < p.in_channels; channel += stem_chunk_channels) {
                const int channels = min(stem_chunk_channels, p.in_channels - channel);
                __syncthreads();
                if (group == 0 || !read_once)
                    read_part<X>(p.x,
                                 {place.image, place.row * stride - p.padding_top, place.column * stride - p.padding_left,
                                  Tile::in_rows, Tile::in_columns, channel, channels},
                                 threadIdx.x, stem_threads, [&](int y, int x, int c, X value) {
                                     inputs[c * Tile::channel_floats + y * Tile::in_columns + x] = static_cast<float>(value);
                                 });
                const int taps = channels * static_cast<int>(kernel_taps);
                const float* const from = packed + (channel * kernel_taps + 2) * stem_group_channels;
                for (int i = threadIdx.x; i < taps * stem_group_channels; i += stem_threads) weights[i] = from[i];
                __syncthreads();
#pragma unroll 1
                for (int c = 0; c < channels; ++c)
                    add_stem_channel<Tile>(window + c * Tile::channel_floats,
                                           weights + c * kernel_taps * stem_group_channels + half * 4, sums);
                if constexpr (is_long) {
                    if (++run % stem_run_chunks != 0) continue;
#pragma unroll
                    for (int row = 0; row < Tile::thread_rows; ++row)
#pragma unroll
                        for (int i = 0; i < stem_thread_channels; ++i) {
                            totals[row][i] += sums[row][i];
                            sums[row][i] = 0.0f;
                        }
                }
            }
            const int x = place.column + column;
#pragma unroll
            for (int i = 0; i < stem_thread_channels / 4; ++i) {
                const int at = i * 8 + half * 4;
                const float4 scale = load_quad(packed + at), bias = load_quad(packed + stem_group_channels + at);
                const float scales[] = {scale.x, scale.y, scale.z, scale.w}, biases[] = {bias.x, bias.y, bias.z, bias.w};
#pragma unroll
                for (int row = 0; row < Tile::thread_rows; ++row) {
                    const int y = place.row + first_row + row;
                    if (y >= p.out_height || x >= p.out_width) continue;
                    float value[quad_channels];
#pragma unroll
                    for (int j = 0; j < quad_channels; ++j) {
                        const float sum = is_long ? totals[row][i * 4 + j] + sums[row][i * 4 + j] : sums[row][i * 4 + j];
                        value[j] = ptx::clamp(sum * scales[j] + biases[j], p.clamp.low, p.clamp.high);
                    }
                    store_channels(stem_output<X>(p, place.image, y, x), group * stem_group_channels + at, p.out_channels,
                                   {value[0], value[1], value[2], value[3]});
                }
            }
        }
    }
}

}  // namespace mnv2::cuda
