// The head on tensor cores: 16-bit tensors and weights, channels in multiples of eight.
//
// Rows of the products are channels and columns are pixels: 49 pixels waste less of tiles of eight than of tiles of 16.
// A warp makes 32 channels of some images. Pixels lie in shared memory, all channels of them where they fit; the weights
// come to each warp straight from global memory, in the order of A fragments.
//
// Packed weights: the biases of all groups, then for each group and 16 depths two fragments of 16 channels. Row g of a
// fragment is channel 2g, row g + 8 is channel 2g + 1, and lane q has depths 4q to 4q + 3 of 16.
#pragma once

#include <cstdint>

#include "cuda/common/ptx.cuh"
#include "cuda/head_pool/config.h"

namespace mnv2::cuda {

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
__device__ __forceinline__ void start_from_head_bias(const HeadPoolArguments& p, int group, int row, HeadSums<Shape>& sums)
{
    const auto* const biases = reinterpret_cast<const float2*>(p.packed);
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

template <class Shape>
using HeadPooled = float[Shape::warp_images][head_row_tiles][2];

// Activates the sums and adds those of pixels that exist; `pixel` is the first of the lane's.
template <class Shape>
__device__ __forceinline__ void pool_head_sums(const HeadPoolArguments& p, int pixel, const HeadSums<Shape>& sums,
                                               HeadPooled<Shape>& pooled)
{
#pragma unroll
    for (int image = 0; image < Shape::warp_images; ++image)
#pragma unroll
        for (int n = 0; n < head_column_tiles; ++n)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                if (pixel + n * 8 + i >= p.pixels) continue;
#pragma unroll
                for (int m = 0; m < head_row_tiles; ++m) {
                    const float (&sum)[4] = sums[image][n][m];
                    pooled[image][m][0] += ptx::clamp(sum[i], p.epilogue.clamp.low, p.epilogue.clamp.high);
                    pooled[image][m][1] += ptx::clamp(sum[2 + i], p.epilogue.clamp.low, p.epilogue.clamp.high);
                }
            }
}

// Adds up the four lanes of a row and stores the means.
template <class Shape>
__device__ __forceinline__ void store_head_means(const HeadPoolArguments& p, int64_t first_image, int group, int lane,
                                                 const HeadPooled<Shape>& pooled)
{
    using T = typename Shape::T;
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
            const int64_t image = first_image + i;
            const int channel = group * head_group_channels + m * 16 + lane / 4 * 2;
            if (lane % 4 == 0 && image < p.batch && channel < p.out_channels)
                ptx::store_global(static_cast<T*>(p.y) + image * p.out_channels + channel, ptx::pack2<T>(mean[0], mean[1]));
        }
}

}  // namespace mnv2::cuda
