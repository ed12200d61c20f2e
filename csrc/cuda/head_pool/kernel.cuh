// The head with its pool: a 1x1 convolution, its activation and the mean over all pixels; the wide tensor stays in registers.
//
// Four images share the weights that come from L2: read once an image, they would cost more than the products
// (benchmarks/NOTES.md).
#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda/common/ptx.cuh"
#include "cuda/head_pool/config.h"

namespace mnv2::cuda {

// --- on tensor cores: 16-bit tensors and weights, channels in multiples of eight ------------------------------------------
//
// Rows of the products are channels and columns are pixels: 49 pixels waste less of tiles of eight than of tiles of 16.
// A warp makes 32 channels of some images. Pixels lie in shared memory, all channels of them where they fit; the weights
// come to each warp straight from global memory, in the order of A fragments.
//
// Packed weights: the biases of all groups, then for each group and 16 depths two fragments of 16 channels. Row g of a
// fragment is channel 2g, row g + 8 is channel 2g + 1, and lane q has depths 4q to 4q + 3 of 16.

// Reads the pixels of a block's images from first_pixel and first_depth on, rows_per_image rows for each image.
template <class Shape>
__device__ __forceinline__ void read_head_pixels(const HeadPoolArguments& p, int64_t first_image, int first_pixel,
                                                 int rows_per_image, int first_depth, uint8_t* shared)
{
    using T = typename Shape::T;
    constexpr int piece = 8;  // 16-bit numbers in 16 bytes
    const int lane = threadIdx.x % 32, depth = min(p.chunk_depth, p.depth - first_depth);
    for (int row = threadIdx.x / 32; row < Shape::images * rows_per_image; row += Shape::warps) {
        const int64_t image = first_image + row / rows_per_image;
        const int pixel = first_pixel + row % rows_per_image;
        if (image >= p.batch || pixel >= p.pixels) continue;
        const T* const from = static_cast<const T*>(p.x) + (image * p.pixels + pixel) * p.in_channels + first_depth;
        uint8_t* const to = shared + row * p.row_bytes;
        for (int k = lane * piece; k < depth; k += 32 * piece)
            if (first_depth + k < p.in_channels)
                ptx::cp_async16(to + k * sizeof(T), from + k);
            else
                ptx::store_shared(to + k * sizeof(T), uint4{0, 0, 0, 0});
    }
    ptx::cp_async_commit();
    ptx::cp_async_wait<0>();
}

__device__ __forceinline__ void load_head_weights(const uint32_t* step, int lane, uint32_t (&a)[head_row_tiles][4])
{
#pragma unroll
    for (int m = 0; m < head_row_tiles; ++m) {
        const uint4 fragment = ptx::load_global_in_place<uint4>(step + m * head_fragment_words + lane * 4);
        a[m][0] = fragment.x, a[m][1] = fragment.y, a[m][2] = fragment.z, a[m][3] = fragment.w;
    }
}

template <class Shape>
using HeadSums = float[Shape::warp_images][head_column_tiles][head_row_tiles][4];

// Adds the products of `steps` times 16 depths; `pixels` points at the depths of the lane's first pixel.
template <class Shape>
__device__ __forceinline__ void add_head_products(const HeadPoolArguments& p, const uint8_t* pixels, int rows_per_image,
                                                  const uint32_t* weights, int steps, int lane, HeadSums<Shape>& sums)
{
    uint32_t next[head_row_tiles][4];
    load_head_weights(weights, lane, next);
    __syncwarp();
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
        uint32_t a[head_row_tiles][4];
#pragma unroll
        for (int m = 0; m < head_row_tiles; ++m)
#pragma unroll
            for (int i = 0; i < 4; ++i) a[m][i] = next[m][i];
        load_head_weights(weights + min(step + 1, steps - 1) * head_step_words, lane, next);
#pragma unroll
        for (int image = 0; image < Shape::warp_images; ++image)
#pragma unroll
            for (int n = 0; n < head_column_tiles; ++n) {
                const uint8_t* const from = pixels + (image * rows_per_image + n * 8) * p.row_bytes + step * 32;
                const uint2 pair = ptx::load_shared<uint2>(from);
                const uint32_t b[2] = {pair.x, pair.y};
#pragma unroll
                for (int m = 0; m < head_row_tiles; ++m)
                    ptx::mma_m16n8k16<typename Shape::T>(sums[image][n][m], a[m], b, sums[image][n][m]);
            }
    }
}

template <class Shape>
__global__ void __launch_bounds__(Shape::threads, 1) head_pool_mma_kernel(HeadPoolArguments p)
{
    using T = typename Shape::T;
    MNV2_DYNAMIC_SHARED(shared);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, row = lane / 4, quad = lane % 4;
    const int warp_image = warp % Shape::image_sets * Shape::warp_images;
    const int rows_per_image = min(p.pixels, head_chunk_pixels);
    const uint8_t* const pixels = shared + (warp_image * rows_per_image + row) * p.row_bytes + quad * 8;
    const bool fits = p.pixels <= head_chunk_pixels && p.depth <= p.chunk_depth;
    const auto* const biases = reinterpret_cast<const float2*>(p.packed);
    const uint32_t* const fragments = p.packed + p.groups * head_group_channels;

    for (int64_t task = blockIdx.x; task < p.tasks; task += gridDim.x) {
        const int64_t first_image = task / p.splits * Shape::images;
        const int begin = static_cast<int>(task % p.splits) * p.part_groups, end = min(begin + p.part_groups, p.groups);
        for (int first = begin; first < end; first += Shape::groups) {
            const int group = first + warp / Shape::image_sets;
            const bool active = group < end && first_image + warp_image < p.batch;
            float pooled[Shape::warp_images][head_row_tiles][2] = {};
            for (int pixel = 0; pixel < p.pixels; pixel += head_chunk_pixels) {
                HeadSums<Shape> sums;
                if (active) {
#pragma unroll
                    for (int m = 0; m < head_row_tiles; ++m) {
                        const float2 bias = ptx::load_global_in_place<float2>(biases + (group * head_row_tiles + m) * 8 + row);
#pragma unroll
                        for (int i = 0; i < Shape::warp_images * head_column_tiles; ++i) {
                            float (&sum)[4] = sums[i / head_column_tiles][i % head_column_tiles][m];
                            sum[0] = sum[1] = bias.x;
                            sum[2] = sum[3] = bias.y;
                        }
                    }
                }
                for (int depth = 0; depth < p.depth; depth += p.chunk_depth) {
                    if (!fits || first == begin) {
                        __syncthreads();
                        read_head_pixels<Shape>(p, first_image, pixel, rows_per_image, depth, shared);
                        __syncthreads();
                    }
                    const int steps = min(p.chunk_depth, p.depth - depth) / head_step_depth;
                    const int64_t step = static_cast<int64_t>(group) * (p.depth / head_step_depth) + depth / head_step_depth;
                    if (active)
                        add_head_products<Shape>(p, pixels, rows_per_image, fragments + step * head_step_words, steps, lane,
                                                 sums);
                }
                if (!active) continue;
#pragma unroll
                for (int image = 0; image < Shape::warp_images; ++image)
#pragma unroll
                    for (int n = 0; n < head_column_tiles; ++n)
#pragma unroll
                        for (int i = 0; i < 2; ++i) {
                            if (pixel + n * 8 + quad * 2 + i >= p.pixels) continue;
#pragma unroll
                            for (int m = 0; m < head_row_tiles; ++m) {
                                const float (&sum)[4] = sums[image][n][m];
                                pooled[image][m][0] += ptx::clamp(sum[i], p.clamp.low, p.clamp.high);
                                pooled[image][m][1] += ptx::clamp(sum[2 + i], p.clamp.low, p.clamp.high);
                            }
                        }
            }
            if (!active) continue;
            __syncwarp();
#pragma unroll
            for (int i = 0; i < Shape::warp_images; ++i)
#pragma unroll
                for (int m = 0; m < head_row_tiles; ++m) {
                    float mean[2];
#pragma unroll
                    for (int j = 0; j < 2; ++j) {
                        float sum = pooled[i][m][j];
                        sum += ptx::shuffle_xor(sum, 1);
                        sum += ptx::shuffle_xor(sum, 2);
                        mean[j] = sum / static_cast<float>(p.pixels);
                    }
                    const int64_t image = first_image + warp_image + i;
                    const int channel = group * head_group_channels + m * 16 + row * 2;
                    if (quad == 0 && image < p.batch && channel < p.out_channels)
                        ptx::store_global(static_cast<T*>(p.y) + image * p.out_channels + channel,
                                          ptx::pack2<T>(mean[0], mean[1]));
                }
        }
    }
}

// --- in multiply-adds: any channels and types -------------------------------------------------------------------------------
//
// Packed weights: rows of scales, of biases and of the weights of each depth; a row has a number for each channel, padded. A
// block makes some channels of two images: four warps share an image, 14 pixels each; a lane has one channel, or four
// neighbours.

template <class X, int thread_channels>
__global__ void __launch_bounds__(head_scalar_threads, 1) head_pool_scalar_kernel(HeadPoolArguments p)
{
    using Shape = HeadPoolScalar<thread_channels>;
    MNV2_DYNAMIC_SHARED(shared);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int first_pixel = warp % head_image_warps * head_thread_pixels;
    const int64_t padded = (p.out_channels + head_padded_channels - 1) / head_padded_channels * head_padded_channels;
    const float* const packed = reinterpret_cast<const float*>(p.packed);
    const int chunks = (p.in_channels + head_scalar_depth - 1) / head_scalar_depth;
    const int pixel_chunks = (p.pixels + head_chunk_pixels - 1) / head_chunk_pixels;
    const auto buffer = [&](int step) { return reinterpret_cast<float*>(shared) + step % 2 * Shape::buffer_floats; };

    for (int64_t task = blockIdx.x; task < p.tasks; task += gridDim.x) {
        const int64_t first_image = task / p.splits * head_scalar_images;
        const int first_channel = static_cast<int>(task % p.splits) * Shape::channels;
        const int channel = first_channel + lane * thread_channels;

        const auto fetch_inputs = [&](int step) {
            const int first_k = step % chunks * head_scalar_depth, chunk_pixel = step / chunks * head_chunk_pixels;
            const auto for_each_row = [&](int row, int rows, const auto& visit) {
#pragma unroll 1
                for (; row < head_scalar_rows; row += rows) {
                    const int64_t image = first_image + row / head_chunk_pixels;
                    const int pixel = chunk_pixel + row % head_chunk_pixels;
                    if (image < p.batch && pixel < p.pixels)
                        visit(static_cast<const X*>(p.x) + (image * p.pixels + pixel) * p.in_channels + first_k,
                              buffer(step) + row * head_scalar_depth);
                }
            };
            if (std::is_same_v<X, float> && p.in_channels % head_scalar_depth == 0) {
                constexpr int row_pieces = head_scalar_depth / 4;
                const int k = threadIdx.x % row_pieces * 4;
                for_each_row(threadIdx.x / row_pieces, head_scalar_threads / row_pieces,
                             [&](const X* from, float* to) { ptx::cp_async16(to + k, from + k); });
            } else {
                for_each_row(warp, head_scalar_warps, [&](const X* from, float* to) {
                    to[lane] = first_k + lane < p.in_channels ? static_cast<float>(from[lane]) : 0.0f;
                });
            }
        };
        const auto fetch_weights = [&](int step) {
            constexpr int row_pieces = Shape::channels / 4;
            float* const to = buffer(step) + Shape::input_floats;
            for (int i = threadIdx.x; i < head_scalar_depth * row_pieces; i += head_scalar_threads) {
                const int64_t k = step % chunks * head_scalar_depth + i / row_pieces;
                if (k < p.in_channels)
                    ptx::cp_async16(to + i * 4, packed + (k + 2) * padded + first_channel + i % row_pieces * 4);
                else
                    *reinterpret_cast<float4*>(to + i * 4) = {0.0f, 0.0f, 0.0f, 0.0f};
            }
            ptx::cp_async_commit();
        };

        fetch_inputs(0);
        fetch_weights(0);
        float sums[head_thread_pixels][thread_channels] = {}, totals[head_thread_pixels][thread_channels] = {};
        double pooled[thread_channels] = {};  // large images have many chunks
#pragma unroll 1
        for (int step = 0; step < chunks * pixel_chunks; ++step) {
            ptx::cp_async_wait<0>();
            __syncthreads();
            if (step + 1 < chunks * pixel_chunks) {
                fetch_inputs(step + 1);
                fetch_weights(step + 1);
            }
            const float* const x =
                buffer(step) + (warp / head_image_warps * head_chunk_pixels + first_pixel) * head_scalar_depth;
            const float* const weights = buffer(step) + Shape::input_floats + lane * thread_channels;
#pragma unroll 1
            for (int k = 0; k < head_scalar_depth; k += 4) {
                float w[4][thread_channels];
#pragma unroll
                for (int j = 0; j < 4; ++j) {
                    const float* const from = weights + (k + j) * Shape::channels;
                    if constexpr (thread_channels == 4) {
                        const float4 four = *reinterpret_cast<const float4*>(from);
                        w[j][0] = four.x, w[j][1] = four.y, w[j][2] = four.z, w[j][3] = four.w;
                    } else {
                        w[j][0] = from[0];
                    }
                }
#pragma unroll
                for (int i = 0; i < head_thread_pixels; ++i) {
                    const float4 four = *reinterpret_cast<const float4*>(x + i * head_scalar_depth + k);
                    const float values[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
                    for (int j = 0; j < 4; ++j)
#pragma unroll
                        for (int c = 0; c < thread_channels; ++c) sums[i][c] += values[j] * w[j][c];
                }
            }
            const int chunk = step % chunks;
            if (chunk % head_run_chunks != head_run_chunks - 1 && chunk != chunks - 1) continue;
#pragma unroll
            for (int i = 0; i < head_thread_pixels; ++i)
#pragma unroll
                for (int c = 0; c < thread_channels; ++c) {
                    totals[i][c] += sums[i][c];
                    sums[i][c] = 0.0f;
                }
            if (chunk != chunks - 1) continue;
            const int pixel = step / chunks * head_chunk_pixels + first_pixel;
#pragma unroll
            for (int c = 0; c < thread_channels; ++c) {
                const float scale = packed[channel + c], bias = packed[padded + channel + c];
                float chunk_sum = 0.0f;
#pragma unroll
                for (int i = 0; i < head_thread_pixels; ++i) {
                    if (pixel + i < p.pixels) chunk_sum += ptx::clamp(totals[i][c] * scale + bias, p.clamp.low, p.clamp.high);
                    totals[i][c] = 0.0f;
                }
                pooled[c] += static_cast<double>(chunk_sum);
            }
        }
        __syncthreads();
        float* const parts = reinterpret_cast<float*>(shared);
#pragma unroll
        for (int c = 0; c < thread_channels; ++c)
            parts[warp * Shape::channels + lane * thread_channels + c] = static_cast<float>(pooled[c]);
        __syncthreads();
        for (int i = threadIdx.x; i < head_scalar_images * Shape::channels; i += head_scalar_threads) {
            const int64_t image = first_image + i / Shape::channels;
            const int at = i % Shape::channels;
            if (image >= p.batch || first_channel + at >= p.out_channels) continue;
            const float* const part = parts + i / Shape::channels * head_image_warps * Shape::channels + at;
            float sum = part[0];
#pragma unroll
            for (int j = 1; j < head_image_warps; ++j) sum += part[j * Shape::channels];
            static_cast<X*>(p.y)[image * p.out_channels + first_channel + at] =
                static_cast<X>(sum / static_cast<float>(p.pixels));
        }
        __syncthreads();
    }
}

}  // namespace mnv2::cuda
