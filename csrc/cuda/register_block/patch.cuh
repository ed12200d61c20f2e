// A lane's patch of register_block: where it lies, the input pixels that it holds, and its stores.
#pragma once

#include <cstdint>

#include "cuda/common/ptx.cuh"
#include "cuda/register_block/config.h"

namespace mnv2::cuda {

// What a thread is to its warp and fragments.
struct PatchLane {
    int lane, group, quad;
};

// The patch that the four lanes of a group make.
struct Patch {
    int64_t image;
    int out_y, out_x, in_y, in_x;
    bool live;  // the patch exists
};

template <class Block>
__device__ __forceinline__ Patch patch_of(const RegisterBlockArguments& p, int64_t index)
{
    const int64_t patches_per_image = static_cast<int64_t>(p.patch_rows) * p.patch_columns;
    const int64_t image = index / patches_per_image, place = index % patches_per_image;
    const int out_y = static_cast<int>(place / p.patch_columns) * Block::patch_height;
    const int out_x = static_cast<int>(place % p.patch_columns) * Block::patch_width;
    return {
        image, out_y, out_x, out_y * Block::stride - p.padding_top, out_x * Block::stride - p.padding_left, index < p.patches};
}

// Which expanded pixels of a patch lie in the image.
template <class Block>
struct PatchMask {
    uint32_t row[Block::expanded_height], column[Block::expanded_width];  // all bits are set inside the image
    bool border;                                                          // some expanded pixels are outside

    __device__ __forceinline__ PatchMask(const RegisterBlockArguments& p, const Patch& patch)
    {
#pragma unroll
        for (int y = 0; y < Block::expanded_height; ++y) {
            row[y] = 0u - static_cast<uint32_t>(static_cast<unsigned>(patch.in_y + y) < static_cast<unsigned>(p.height));
            ptx::keep_in_register(row[y]);
        }
#pragma unroll
        for (int x = 0; x < Block::expanded_width; ++x) {
            column[x] = 0u - static_cast<uint32_t>(static_cast<unsigned>(patch.in_x + x) < static_cast<unsigned>(p.width));
            ptx::keep_in_register(column[x]);
        }
        border = patch.in_y < 0 || patch.in_x < 0 || patch.in_y + Block::expanded_height > p.height ||
                 patch.in_x + Block::expanded_width > p.width;
    }

    __device__ __forceinline__ uint32_t at(int i) const
    {
        return row[i / Block::expanded_width] & column[i % Block::expanded_width];
    }
};

// The patch's input pixels as A fragments, 0 outside the image.
template <class Block>
using PatchPixels = uint32_t[Block::expanded_tiles][Block::fragment_registers];

template <class Block>
__device__ __forceinline__ void load_pixels(const RegisterBlockArguments& p, const Patch& patch, const PatchMask<Block>& mask,
                                            int quad, PatchPixels<Block>& pixels)
{
    using T = typename Block::T;
    const T* const input = static_cast<const T*>(p.input) + patch.image * p.height * p.width * Block::in_channels;
#pragma unroll
    for (int i = 0; i < 2 * Block::expanded_tiles; ++i) {
        const int y = i / Block::expanded_width, x = i % Block::expanded_width;
        const bool inside = i < Block::expanded_pixels && patch.live && mask.row[y] && mask.column[x];
        const T* const pixel = input + (static_cast<int64_t>(patch.in_y + y) * p.width + patch.in_x + x) * Block::in_channels;
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
}

template <class Block>
using PatchSums = float[Block::output_tiles][Block::column_tiles][4];

// Two channels of an output pixel: bias and shortcut in float, then one rounding.
template <class Block>
__device__ __forceinline__ uint32_t finish_pair(const RegisterBlockArguments& p, const PatchPixels<Block>& pixels,
                                                const PatchSums<Block>& sum, int o, int n, int quad)
{
    using T = typename Block::T;
    const float* const bias = reinterpret_cast<const float*>(p.packed);
    const float2 pair_bias = ptx::load_global_in_place<float2>(bias + first_channel<Block>(n, quad));
    float low = sum[o / 2][n][o % 2 * 2] + pair_bias.x;
    float high = sum[o / 2][n][o % 2 * 2 + 1] + pair_bias.y;
    if constexpr (Block::stride == 1 && Block::in_channels == Block::out_channels) {
        constexpr int center = Block::expanded_width + 1;
        const int i = o / Block::patch_width * Block::expanded_width + o % Block::patch_width + center;
        const int at = n < Block::depth16 * 2 ? n / 2 * 4 + n % 2 * 2 : Block::depth16 * 4;
        const float2 shortcut = ptx::unpack2<T>(pixels[i / 2][at + i % 2]);
        if (p.residual) {
            low += shortcut.x;
            high += shortcut.y;
        }
    }
    return ptx::pack2<T>(low, high);
}

template <class Block>
__device__ __forceinline__ void store_patch(const RegisterBlockArguments& p, const Patch& patch,
                                            const PatchPixels<Block>& pixels, const PatchSums<Block>& sum, int quad)
{
    using T = typename Block::T;
    T* const output = static_cast<T*>(p.output) + patch.image * p.out_height * p.out_width * Block::out_channels;
#pragma unroll
    for (int o = 0; o < Block::outputs; ++o) {
        const int y = patch.out_y + o / Block::patch_width, x = patch.out_x + o % Block::patch_width;
        if (!patch.live || y >= p.out_height || x >= p.out_width) continue;
        T* const pixel = output + (static_cast<int64_t>(y) * p.out_width + x) * Block::out_channels;
        uint32_t result[Block::column_tiles];
#pragma unroll
        for (int n = 0; n < Block::column_tiles; ++n) result[n] = finish_pair<Block>(p, pixels, sum, o, n, quad);
#pragma unroll
        for (int n = 0; n + 1 < Block::column_tiles; n += 2)
            ptx::store_global(pixel + first_channel<Block>(n, quad), uint2{result[n], result[n + 1]});
        if constexpr (Block::column_tiles % 2 != 0) {
            constexpr int last = Block::column_tiles - 1;
            ptx::store_global(pixel + first_channel<Block>(last, quad), result[last]);
        }
    }
}

}  // namespace mnv2::cuda
