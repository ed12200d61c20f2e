// The inverted residual whose expanded tensor never leaves the registers: for blocks with few input channels.
//
// A warp makes eight patches of output pixels, one for each row group of its mma fragments. The four lanes of a group hold
// the patch's input pixels, halo included, as A fragments; they expand them eight channels at a time and then hold every
// neighbour that the depthwise convolution asks for; its outputs are the A fragments of the projection. Patches expand
// their halo pixels anew: tensor cores have the time, shared memory and shuffles have not (an H100 spent 51 to 68 % of its
// shared-memory cycles on a kernel that exchanged the expanded tensor there). Shared memory holds the weights of the whole
// block; after they have come, warps never meet.
//
// Packed weights: the projection's bias, then a step for every 16 expanded channels. A step is two halves of eight
// channels, each the expand layer's B fragments and four lanes' constants, and the projection's B fragments.
#pragma once

#include <cstdint>
#pragma once

#include <cstdint>

#include "cuda/common/depthwise.cuh"
#include "cuda/common/ptx.cuh"
#include "cuda/register_block/config.h"

namespace mnv2::cuda {

template <class Block>
__global__ void __launch_bounds__(32 * Block::warps, Block::blocks_per_sm) register_block_kernel(RegisterBlockArguments p)
{
    using T = typename Block::T;
    MNV2_DYNAMIC_SHARED(shared);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = lane / 4, quad = lane % 4;
    const uint8_t* const steps = p.packed + Block::bias_bytes;
    for (int at = threadIdx.x * 16; at < p.steps * Block::step_bytes; at += Block::warps * 32 * 16)
        ptx::cp_async16(shared + at, steps + at);
    ptx::cp_async_commit();
    ptx::cp_async_wait<0>();
    __syncthreads();

    const uint32_t high = ptx::pack2<T>(p.high, p.high);
    const int64_t patches_per_image = static_cast<int64_t>(p.patch_rows) * p.patch_columns;
    const int64_t warp_stride = static_cast<int64_t>(gridDim.x) * Block::warps * patches_per_warp;
    for (int64_t first = (static_cast<int64_t>(blockIdx.x) * Block::warps + warp) * patches_per_warp; first < p.patches;
         first += warp_stride) {
        const int64_t patch = first + group;
        const bool live = patch < p.patches;
        const int64_t image = patch / patches_per_image;
        const int64_t place = patch % patches_per_image;
        const int out_y = static_cast<int>(place / p.patch_columns) * Block::patch_height;
        const int out_x = static_cast<int>(place % p.patch_columns) * Block::patch_width;
        const int in_y = out_y * Block::stride - p.padding_top, in_x = out_x * Block::stride - p.padding_left;
        const T* const input = static_cast<const T*>(p.input) + image * p.height * p.width * Block::in_channels;

        uint32_t row_mask[Block::hidden_height], column_mask[Block::hidden_width];  // all ones inside the image
#pragma unroll
        for (int y = 0; y < Block::hidden_height; ++y) {
            row_mask[y] = 0u - static_cast<uint32_t>(static_cast<unsigned>(in_y + y) < static_cast<unsigned>(p.height));
            ptx::keep_in_register(row_mask[y]);
        }
#pragma unroll
        for (int x = 0; x < Block::hidden_width; ++x) {
            column_mask[x] = 0u - static_cast<uint32_t>(static_cast<unsigned>(in_x + x) < static_cast<unsigned>(p.width));
            ptx::keep_in_register(column_mask[x]);
        }
        const bool border =
            in_y < 0 || in_x < 0 || in_y + Block::hidden_height > p.height || in_x + Block::hidden_width > p.width;

        uint32_t pixels[Block::hidden_tiles][Block::fragment_registers];
#pragma unroll
        for (int i = 0; i < 2 * Block::hidden_tiles; ++i) {
            const int y = i / Block::hidden_width, x = i % Block::hidden_width;
            const bool inside = i < Block::hidden && live && row_mask[y] && column_mask[x];
            const T* const pixel = input + (static_cast<int64_t>(in_y + y) * p.width + in_x + x) * Block::in_channels;
            uint32_t* const to = pixels[i / 2] + i % 2;
#pragma unroll
            for (int k = 0; k < Block::depth16; ++k) {
                const T* const from = pixel + k * 16 + quad * 4;
                to[k * 4] = inside ? ptx::load_global32(from) : 0u;
                to[k * 4 + 2] = inside ? ptx::load_global32(from + 2) : 0u;
            }
            if constexpr (Block::depth8)
                to[Block::depth16 * 4] = inside ? ptx::load_global32(pixel + Block::depth16 * 16 + quad * 2) : 0u;
        }

        float sum[Block::output_tiles][Block::column_tiles][4] = {};
        const uint8_t* weights = shared;
#pragma unroll 1
        for (int step = 0; step < p.steps; ++step) {
            uint32_t middle[Block::output_tiles][4];
#pragma unroll
            for (int half = 0; half < 2; ++half, weights += Block::half_bytes) {
                uint32_t b[Block::depth16 * 2 + 1];
#pragma unroll
                for (int k = 0; k < Block::depth16; ++k) {
                    const uint2 fragment = ptx::load_shared<uint2>(weights + k * fragment16_bytes + lane * 8);
                    b[k * 2] = fragment.x;
                    b[k * 2 + 1] = fragment.y;
                }
                if constexpr (Block::depth8)
                    b[Block::depth16 * 2] = ptx::load_shared<uint32_t>(weights + Block::depth16 * fragment16_bytes + lane * 4);

                const uint8_t* const constants = weights + Block::expand_bytes + quad * sizeof(HalfConstants<T>);
                const float4 bias4 = ptx::load_shared<float4>(constants);
                const uint4 taps0 = ptx::load_shared<uint4>(constants + 16);
                const uint4 taps4 = ptx::load_shared<uint4>(constants + 32);
                const uint2 rest = ptx::load_shared<uint2>(constants + 48);
                const float expand_bias[4] = {bias4.x, bias4.y, bias4.z, bias4.w};
                const uint32_t weight[kernel_taps] = {taps0.x, taps0.y, taps0.z, taps0.w, taps4.x,
                                                      taps4.y, taps4.z, taps4.w, rest.x};

                uint32_t expanded[2 * Block::hidden_tiles];
#pragma unroll
                for (int t = 0; t < Block::hidden_tiles; ++t) {
                    float tile[4];
#pragma unroll
                    for (int k = 0; k < Block::depth16; ++k) {
                        const uint32_t a[4] = {pixels[t][k * 4], pixels[t][k * 4 + 1], pixels[t][k * 4 + 2],
                                               pixels[t][k * 4 + 3]};
                        if (k == 0)
                            ptx::mma_m16n8k16<T>(tile, a, b, expand_bias);
                        else
                            ptx::mma_m16n8k16<T>(tile, a, b + k * 2, tile);
                    }
                    if constexpr (Block::depth8) {
                        const uint32_t a[2] = {pixels[t][Block::depth16 * 4], pixels[t][Block::depth16 * 4 + 1]};
                        ptx::mma_m16n8k8<T>(tile, a, b[Block::depth16 * 2]);
                    }
                    expanded[2 * t] = ptx::min2<T>(ptx::pack2_relu<T>(tile[0], tile[1]), high);
                    expanded[2 * t + 1] = ptx::min2<T>(ptx::pack2_relu<T>(tile[2], tile[3]), high);
                }
                if (border) {
#pragma unroll
                    for (int i = 0; i < Block::hidden; ++i)
                        expanded[i] &= row_mask[i / Block::hidden_width] & column_mask[i % Block::hidden_width];
                }
                __syncwarp();

#pragma unroll
                for (int o = 0; o < Block::outputs; ++o) {
                    const int y = o / Block::patch_width * Block::stride, x = o % Block::patch_width * Block::stride;
                    uint32_t window[kernel_taps];
#pragma unroll
                    for (int i = 0; i < kernel_taps; ++i) window[i] = expanded[(y + i / 3) * Block::hidden_width + x + i % 3];
                    middle[o / 2][half * 2 + o % 2] = depthwise<T>(window, weight, rest.y, high);
                }
            }
#pragma unroll
            for (int n = 0; n < Block::column_tiles; ++n, weights += fragment16_bytes) {
                const uint2 fragment = ptx::load_shared<uint2>(weights + lane * 8);
                const uint32_t b[2] = {fragment.x, fragment.y};
#pragma unroll
                for (int m = 0; m < Block::output_tiles; ++m) ptx::mma_m16n8k16<T>(sum[m][n], middle[m], b, sum[m][n]);
            }
        }

        const float* const bias = reinterpret_cast<const float*>(p.packed);
        T* const output = static_cast<T*>(p.output) + image * p.out_height * p.out_width * Block::out_channels;
#pragma unroll
        for (int o = 0; o < Block::outputs; ++o) {
            const int y = out_y + o / Block::patch_width, x = out_x + o % Block::patch_width;
            if (!live || y >= p.out_height || x >= p.out_width) continue;
            T* const pixel = output + (static_cast<int64_t>(y) * p.out_width + x) * Block::out_channels;
            uint32_t result[Block::column_tiles];
#pragma unroll
            for (int n = 0; n < Block::column_tiles; ++n) {
                const int channel = first_channel<Block>(n, quad);
                const float2 pair_bias = ptx::load_global_in_place<float2>(bias + channel);
                float low = sum[o / 2][n][o % 2 * 2] + pair_bias.x;
                float high_channel = sum[o / 2][n][o % 2 * 2 + 1] + pair_bias.y;
                if constexpr (Block::stride == 1 && Block::in_channels == Block::out_channels) {
                    constexpr int center = Block::hidden_width + 1;
                    const int i = o / Block::patch_width * Block::hidden_width + o % Block::patch_width + center;
                    const int at = n < Block::depth16 * 2 ? n / 2 * 4 + n % 2 * 2 : Block::depth16 * 4;
                    const float2 shortcut = ptx::unpack2<T>(pixels[i / 2][at + i % 2]);
                    if (p.residual) {
                        low += shortcut.x;
                        high_channel += shortcut.y;
                    }
                }
                result[n] = ptx::pack2<T>(low, high_channel);
            }
#pragma unroll
            for (int n = 0; n + 1 < Block::column_tiles; n += 2)
                ptx::store_global(pixel + first_channel<Block>(n, quad), uint2{result[n], result[n + 1]});
            if constexpr (Block::column_tiles % 2 != 0) {
                constexpr int last = Block::column_tiles - 1;
                ptx::store_global(pixel + first_channel<Block>(last, quad), result[last]);
            }
        }
    }
}

}  // namespace mnv2::cuda
