// The head in multiply-adds: any channels and types.
//
// Packed weights: rows of scales, of biases and of the weights of each depth; a row has a number for each channel, padded. A
// block makes some channels of two images: four warps share an image, 14 pixels each; a lane has one channel, or four
// neighbours.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda/common/activate.cuh"
#include "cuda/common/ptx.cuh"
#include "cuda/common/quads.cuh"
#include "cuda/common/sizes.h"
#include "cuda/head_pool/config.h"

namespace mnv2::cuda {

// What a thread block makes: its task is cut into steps, a chunk of depths for a chunk of pixels.
template <class Shape>
struct HeadScalarTask {
    const HeadPoolArguments& p;
    float* const shared;
    const int64_t first_image;
    const int first_channel;
    const int chunks = divide_up(p.in_channels, head_scalar_depth), pixel_chunks = divide_up(p.pixels, head_chunk_pixels);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int first_pixel = warp % head_image_warps * head_thread_pixels;

    __device__ __forceinline__ int steps() const { return chunks * pixel_chunks; }
    __device__ __forceinline__ int64_t padded() const { return round_up(p.out_channels, head_padded_channels); }
    __device__ __forceinline__ const float* packed() const { return reinterpret_cast<const float*>(p.packed); }
    __device__ __forceinline__ float* inputs(int step) const { return shared + step % 2 * Shape::buffer_floats; }
    __device__ __forceinline__ float* weights(int step) const { return inputs(step) + Shape::input_floats; }
};

// Fetches the inputs of a step, float32 in pieces of 16 bytes where all rows have whole chunks.
template <class Shape>
__device__ __forceinline__ void fetch_head_inputs(const HeadScalarTask<Shape>& t, int step)
{
    using X = typename Shape::X;
    const HeadPoolArguments& p = t.p;
    const int first_k = step % t.chunks * head_scalar_depth, chunk_pixel = step / t.chunks * head_chunk_pixels;
    const auto for_each_row = [&](int row, int rows, const auto& visit) {
#pragma unroll 1
        for (; row < head_scalar_rows; row += rows) {
            const int64_t image = t.first_image + row / head_chunk_pixels;
            const int pixel = chunk_pixel + row % head_chunk_pixels;
            if (image < p.batch && pixel < p.pixels)
                visit(static_cast<const X*>(p.x) + (image * p.pixels + pixel) * p.in_channels + first_k,
                      t.inputs(step) + row * head_scalar_depth);
        }
    };
    if (std::is_same_v<X, float> && p.in_channels % head_scalar_depth == 0) {
        constexpr int row_pieces = head_scalar_depth / 4;
        const int k = threadIdx.x % row_pieces * 4;
        for_each_row(threadIdx.x / row_pieces, head_scalar_threads / row_pieces,
                     [&](const X* from, float* to) { ptx::cp_async16(to + k, from + k); });
    } else {
        for_each_row(t.warp, head_scalar_warps, [&](const X* from, float* to) {
            to[t.lane] = first_k + t.lane < p.in_channels ? static_cast<float>(from[t.lane]) : 0.0f;
        });
    }
}

template <class Shape>
__device__ __forceinline__ void fetch_head_weights(const HeadScalarTask<Shape>& t, int step)
{
    constexpr int row_pieces = Shape::channels / 4;
    float* const to = t.weights(step);
    for (int i = threadIdx.x; i < head_scalar_depth * row_pieces; i += head_scalar_threads) {
        const int64_t k = step % t.chunks * head_scalar_depth + i / row_pieces;
        if (k < t.p.in_channels)
            ptx::cp_async16(to + i * 4, t.packed() + (k + 2) * t.padded() + t.first_channel + i % row_pieces * 4);
        else
            *reinterpret_cast<float4*>(to + i * 4) = {0.0f, 0.0f, 0.0f, 0.0f};
    }
    ptx::cp_async_commit();
}

template <class Shape>
using HeadScalarSums = float[head_thread_pixels][Shape::thread_channels];

// Loads the weights of four depths for the thread's channels.
template <class Shape>
__device__ __forceinline__ void load_head_quad(const float* from, float (&w)[4][Shape::thread_channels])
{
#pragma unroll
    for (int j = 0; j < 4; ++j, from += Shape::channels) {
        if constexpr (Shape::thread_channels == 4) {
            const float4 four = *reinterpret_cast<const float4*>(from);
            w[j][0] = four.x, w[j][1] = four.y, w[j][2] = four.z, w[j][3] = four.w;
        } else {
            w[j][0] = from[0];
        }
    }
}

// Adds the products of a step.
template <class Shape>
__device__ __forceinline__ void add_head_step(const HeadScalarTask<Shape>& t, int step, HeadScalarSums<Shape>& sums)
{
    const float* const x = t.inputs(step) + (t.warp / head_image_warps * head_chunk_pixels + t.first_pixel) * head_scalar_depth;
    const float* const weights = t.weights(step) + t.lane * Shape::thread_channels;
#pragma unroll 1
    for (int k = 0; k < head_scalar_depth; k += 4) {
        float w[4][Shape::thread_channels];
        load_head_quad<Shape>(weights + k * Shape::channels, w);
#pragma unroll
        for (int i = 0; i < head_thread_pixels; ++i) {
            const float4 four = *reinterpret_cast<const float4*>(x + i * head_scalar_depth + k);
            const float values[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
            for (int j = 0; j < 4; ++j)
#pragma unroll
                for (int c = 0; c < Shape::thread_channels; ++c) sums[i][c] += values[j] * w[j][c];
        }
    }
}

// Scales and activates the totals from `pixel` on, adds them up, and starts them anew. In double, as large images have many
// chunks.
template <class Shape>
__device__ __forceinline__ void pool_head_totals(const HeadScalarTask<Shape>& t, int pixel, HeadScalarSums<Shape>& totals,
                                                 double (&pooled)[Shape::thread_channels])
{
    const float* const packed = t.packed() + t.first_channel + t.lane * Shape::thread_channels;
#pragma unroll
    for (int c = 0; c < Shape::thread_channels; ++c) {
        const float scale = packed[c], bias = packed[t.padded() + c];
        float chunk_sum = 0.0f;
#pragma unroll
        for (int i = 0; i < head_thread_pixels; ++i) {
            if (pixel + i < t.p.pixels) chunk_sum += activate(t.p.epilogue, totals[i][c] * scale + bias);
            totals[i][c] = 0.0f;
        }
        pooled[c] += static_cast<double>(chunk_sum);
    }
}

// Adds up the warps of each image through shared memory and stores the means.
template <class Shape>
__device__ __forceinline__ void store_head_pool(const HeadScalarTask<Shape>& t, const double (&pooled)[Shape::thread_channels])
{
    using X = typename Shape::X;
    const HeadPoolArguments& p = t.p;
    __syncthreads();
#pragma unroll
    for (int c = 0; c < Shape::thread_channels; ++c)
        t.shared[t.warp * Shape::channels + t.lane * Shape::thread_channels + c] = static_cast<float>(pooled[c]);
    __syncthreads();
    for (int i = threadIdx.x; i < head_scalar_images * Shape::channels; i += head_scalar_threads) {
        const int64_t image = t.first_image + i / Shape::channels;
        const int at = i % Shape::channels;
        if (image >= p.batch || t.first_channel + at >= p.out_channels) continue;
        const float* const part = t.shared + i / Shape::channels * head_image_warps * Shape::channels + at;
        float sum = part[0];
#pragma unroll
        for (int j = 1; j < head_image_warps; ++j) sum += part[j * Shape::channels];
        static_cast<X*>(p.y)[image * p.out_channels + t.first_channel + at] =
            static_cast<X>(sum / static_cast<float>(p.pixels));
    }
    __syncthreads();
}

}  // namespace mnv2::cuda
