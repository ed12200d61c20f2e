// The stem and the first block, a depthwise 3x3 convolution and a projection, in one kernel: their tensor of 112x112x32 is
// neither stored nor read.
//
// A thread block reads the input of a tile of outputs, makes the stem's outputs that the tile's windows see, as the stem's own
// kernel does, and keeps them in shared memory. Then each warp goes down eight columns, two rows at a time, and reads every row
// once: a lane has eight channels of a column in the pixels that it reads, in the depthwise outputs and in the projection's A
// fragments.
//
// Counted for an H100, an image of 224x224 takes 0.23 us of memory traffic (0.7 MB), 0.18 us of mma, 0.19 us of issue and
// 0.21 us of shared memory; in kernels of their own the two layers take 0.77 us of memory traffic.
//
// Packed weights: the stem's group of 32 channels, then biases and B fragments of the depthwise layer and of the projection.
#pragma once

#include <cstdint>

#include "cuda/common/ptx.cuh"
#include "cuda/common/stem_tile.cuh"
#include "cuda/stem_block/config.h"

namespace mnv2::cuda {

// Two rows of pixels. In shared memory they are four planes, one for each word of a lane, and a plane has the words of both
// rows side by side: a load brings what mma wants in neighbouring registers.
struct RowPair {
    uint32_t at[lane_words][3][2];  // for three pixels

    template <class Block>
    __device__ __forceinline__ void load(const uint8_t* from)
    {
#pragma unroll
        for (int word = 0; word < lane_words; ++word)
#pragma unroll
            for (int i = 0; i < 3; ++i) {
                const uint2 rows = ptx::load_shared<uint2>(from + word * Block::plane_bytes + i * pixel_pair_bytes);
                at[word][i][0] = rows.x, at[word][i][1] = rows.y;
            }
    }
};

// The depthwise convolution as products with diagonal matrices, whose sums are float32: 24 mma for 16 pixels and 32 channels,
// where half2 takes 96 instructions. A NaN reaches the other channels of its pixel, as 0 times NaN is NaN; the projection would
// spread it in any case.
struct DepthwiseFragments {
    // A row's first two taps are neighbours, as mma wants them.
    uint32_t two[3][lane_words][2], one[3][lane_words];

    __device__ __forceinline__ DepthwiseFragments(const uint32_t* packed, int lane)
    {
        const auto* const pieces = reinterpret_cast<const uint4*>(packed + DepthwiseWords::bias_words) + lane;
#pragma unroll
        for (int ky = 0; ky < 3; ++ky) {
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const uint4 four = ptx::load_global_in_place<uint4>(pieces + (ky * 3 + i) * 32);
                two[ky][i * 2][0] = four.x, two[ky][i * 2][1] = four.y;
                two[ky][i * 2 + 1][0] = four.z, two[ky][i * 2 + 1][1] = four.w;
            }
            const uint4 four = ptx::load_global_in_place<uint4>(pieces + (ky * 3 + 2) * 32);
            one[ky][0] = four.x, one[ky][1] = four.y, one[ky][2] = four.z, one[ky][3] = four.w;
        }
    }

    // Two outputs of a column, for the lane's channels 2 word and 2 word + 1.
    template <class T>
    __device__ __forceinline__ void convolve(const RowPair& first, const RowPair& second, int word, const float (&bias)[4],
                                             float (&sums)[4]) const
    {
        const auto add_row = [&](int ky, auto pixel, const float (&from)[4]) {
            const uint32_t a[4] = {pixel(0, 0), pixel(0, 1), pixel(1, 0), pixel(1, 1)}, last[2] = {pixel(2, 0), pixel(2, 1)};
            ptx::mma_m16n8k16<T>(sums, a, two[ky][word], from);
            ptx::mma_m16n8k8<T>(sums, last, one[ky][word]);
        };
        add_row(0, [&](int kx, int i) { return first.at[word][kx][i]; }, bias);
        add_row(1, [&](int kx, int i) { return i == 0 ? first.at[word][kx][1] : second.at[word][kx][0]; }, sums);
        add_row(2, [&](int kx, int i) { return second.at[word][kx][i]; }, sums);
    }
};

// Stores the stem's outputs of a tile in shared memory, 0 outside of the image.
template <class Block>
__device__ __forceinline__ void fill_expanded(const StemBlockArguments& p, const uint8_t* inputs, int first_row,
                                              int first_column, uint8_t* expanded)
{
    using T = typename Block::T;
    const int lane = threadIdx.x % 32, quad = lane % 4;
    const uint32_t high = ptx::pack2<T>(p.stem_high, p.stem_high);
    const bool border = first_row < 0 || first_column < 0 || first_row + Block::expanded_rows > p.expanded_height ||
                        first_column + Block::expanded_columns > p.expanded_width;
    StemFragments weights;
    weights.load(p.packed, lane);
    for (int first = threadIdx.x / 32 * 8; first < Block::expanded_pairs; first += Block::warps * 8) {
        const int at = min(first + lane / 4, Block::expanded_pairs - 1);
        const int pair = at / Block::expanded_columns, column = at % Block::expanded_columns;
        uint32_t windows[2][stem_slots];
#pragma unroll
        for (int i = 0; i < 2; ++i) Block::Tile::load_window(inputs, pair * 2 + i, column, quad, windows[i]);
        float sums[stem_column_tiles][4];
        __syncwarp();
        weights.convolve<T>(windows[0], windows[1], sums);
        uint32_t pairs[stem_column_tiles][2];
#pragma unroll
        for (int i = 0; i < 2 * stem_column_tiles; ++i) {
            const float (&sum)[4] = sums[i / 2];
            pairs[i / 2][i % 2] = ptx::min2<T>(ptx::pack2_relu<T>(sum[i % 2 * 2], sum[i % 2 * 2 + 1]), high);
        }
        if (border) {
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const int y = first_row + pair * 2 + i, x = first_column + column;
                const bool inside = static_cast<unsigned>(y) < static_cast<unsigned>(p.expanded_height) &&
                                    static_cast<unsigned>(x) < static_cast<unsigned>(p.expanded_width);
#pragma unroll
                for (int n = 0; n < stem_column_tiles; ++n) pairs[n][i] = inside ? pairs[n][i] : 0u;
            }
        }
        if (first + lane / 4 >= Block::expanded_pairs) continue;
        uint8_t* const to = expanded + pair * Block::pair_bytes + column * pixel_pair_bytes + quad * 8;
#pragma unroll
        for (int n = 0; n < stem_column_tiles; ++n)
            ptx::store_shared(to + n * Block::plane_bytes, uint2{pairs[n][0], pairs[n][1]});
    }
}

// The projection's fragments: lanes of index quad have the channels from 4 quad on.
struct ProjectFragments {
    uint32_t b[project_steps][project_column_tiles][2];
    BiasFragments<project_column_tiles> bias;

    __device__ __forceinline__ ProjectFragments(const uint32_t* packed, int lane)
    {
        bias.load(packed, lane % 4);
#pragma unroll
        for (int step = 0; step < project_steps; ++step)
#pragma unroll
            for (int n = 0; n < project_column_tiles; ++n) {
                const uint32_t* const from = packed + BiasFragments<project_column_tiles>::words +
                                             (step * project_column_tiles + n) * StemFragments::fragment_words;
                const uint2 pair = ptx::load_global_in_place<uint2>(from + lane * 2);
                b[step][n][0] = pair.x, b[step][n][1] = pair.y;
            }
    }
};

// Makes two rows of outputs from the two pairs of rows in their windows, and stores the first `rows` of them.
template <class Block>
__device__ __forceinline__ void make_rows(const StemBlockArguments& p, const DepthwiseFragments& depthwise,
                                          const ProjectFragments& project, const RowPair& first, const RowPair& second,
                                          typename Block::T* pixel, int row_step, int rows)
{
    using T = typename Block::T;
    const uint32_t high = ptx::pack2<T>(p.high, p.high);
    BiasFragments<lane_words> bias;  // loaded anew, as registers are scarce
    bias.load(p.packed + Block::depthwise_at, threadIdx.x % 4);
    uint32_t a[project_steps][4];
#pragma unroll
    for (int word = 0; word < lane_words; ++word) {
        float sums[4];
        depthwise.convolve<T>(first, second, word, bias.at[word], sums);
#pragma unroll
        for (int i = 0; i < 2; ++i)
            a[word / 2][word % 2 * 2 + i] = ptx::min2<T>(ptx::pack2_relu<T>(sums[2 * i], sums[2 * i + 1]), high);
    }
    float result[project_column_tiles][4];
#pragma unroll
    for (int n = 0; n < project_column_tiles; ++n) {
        ptx::mma_m16n8k16<T>(result[n], a[0], project.b[0][n], project.bias.at[n]);
        ptx::mma_m16n8k16<T>(result[n], a[1], project.b[1][n], result[n]);
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        if (i < rows)
            ptx::store_global(pixel + i * row_step, uint2{ptx::pack2<T>(result[0][2 * i], result[0][2 * i + 1]),
                                                          ptx::pack2<T>(result[1][2 * i], result[1][2 * i + 1])});
    }
    __syncwarp();
}

// Makes a warp's outputs: eight columns of a strip of rows.
template <class Block>
__device__ __forceinline__ void make_strip(const StemBlockArguments& p, const uint8_t* expanded, int64_t image, int first_row,
                                           int first_column)
{
    using T = typename Block::T;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, quad = lane % 4;
    const int row = warp / Block::column_warps * Block::strip_rows, column = warp % Block::column_warps * 8 + lane / 4;
    const ProjectFragments project(p.packed + Block::project_at, lane);
    const DepthwiseFragments depthwise(p.packed + Block::depthwise_at, lane);
    const int x = first_column + column, row_step = p.out_width * stem_block_out_channels;
    T* pixel = static_cast<T*>(p.y) + (image * p.out_height + first_row + row) * row_step +
               static_cast<int64_t>(x) * stem_block_out_channels + quad * 4;
    const bool exists = x < p.out_width;

    const uint8_t* from = expanded + row / 2 * Block::pair_bytes + column * pixel_pair_bytes + quad * 8;
    RowPair pairs[2];
    pairs[0].load<Block>(from);
#pragma unroll 1
    for (int left = min(Block::strip_rows, p.out_height - first_row - row); left > 0; left -= 4) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            if (left <= 2 * i) continue;
            from += Block::pair_bytes;
            pairs[1 - i].load<Block>(from);
            make_rows<Block>(p, depthwise, project, pairs[i], pairs[1 - i], pixel, row_step, exists ? left - 2 * i : 0);
            pixel += 2 * row_step;
        }
    }
}

template <class Block>
__global__ void __launch_bounds__(Block::threads, Block::blocks_per_sm) stem_block_kernel(StemBlockArguments p)
{
    MNV2_DYNAMIC_SHARED(shared);
    uint8_t* const expanded = shared + Block::expanded_at;
    const int64_t tiles_per_image = static_cast<int64_t>(p.tile_rows) * p.tile_columns;
    for (int64_t tile = blockIdx.x; tile < p.tiles; tile += gridDim.x) {
        const int64_t image = tile / tiles_per_image;
        const auto place = static_cast<int>(tile % tiles_per_image);
        const int row = place / p.tile_columns * Block::rows, column = place % p.tile_columns * Block::columns;
        const int expanded_row = row - p.padding_top, expanded_column = column - p.padding_left;
        const uint8_t* const inputs =
            Block::Tile::read(p.x, image, expanded_row * Block::stride - p.stem_padding_top,
                              expanded_column * Block::stride - p.stem_padding_left, shared, threadIdx.x, Block::threads);
        __syncthreads();  // no warp is in the previous tile any more
        fill_expanded<Block>(p, inputs, expanded_row, expanded_column, expanded);
        __syncthreads();
        make_strip<Block>(p, expanded, image, row, column);
    }
}

}  // namespace mnv2::cuda
