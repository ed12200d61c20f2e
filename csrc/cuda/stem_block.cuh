// The stem and the first block, a depthwise 3x3 convolution and a projection, in one kernel: their tensor of 112x112x32 is
// neither stored nor read.
//
// A thread block reads the input of a tile of outputs, makes the stem's outputs that the tile's windows see, as the stem's own
// kernel does, and keeps them in shared memory. Then each warp goes down eight columns: a lane has eight channels of a column,
// reads every row once and adds it to the three outputs that see it; two rows of outputs are the A fragments of the projection.
//
// Packed weights: the stem's group of 32 channels, then DepthwiseLane of four lanes, then the projection's bias and B
// fragments.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "cuda/ptx.cuh"
#include "cuda/stem_tile.cuh"

namespace mnv2::cuda {

constexpr int stem_block_channels = stem_group_channels;  // between stem and projection
constexpr int stem_block_out_channels = 16;
constexpr int lane_channels = stem_block_channels / 4, lane_words = lane_channels / 2;
constexpr int project_column_tiles = stem_block_out_channels / 8, project_steps = stem_block_channels / 16;

// The depthwise convolution as products with diagonal matrices, whose sums are float32 at the price of a fifth of the
// instructions that multiply-adds in float take. 0 times a NaN spreads it to other channels of its pixel; so does the
// projection.
struct DepthwiseFragments {
    static constexpr int tap_words = 32 * lane_words;
    static constexpr int words = stem_block_channels + static_cast<int>(kernel_taps) * tap_words;

    uint32_t taps[lane_words][kernel_taps];
    float bias[lane_channels];

    __device__ __forceinline__ DepthwiseFragments(const uint32_t* packed, int lane)
    {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const float4 four = reinterpret_cast<const float4*>(packed)[lane % 4 * 2 + i];
            bias[i * 4] = four.x, bias[i * 4 + 1] = four.y, bias[i * 4 + 2] = four.z, bias[i * 4 + 3] = four.w;
        }
#pragma unroll
        for (int tap = 0; tap < kernel_taps; ++tap) {
            const uint4 four = reinterpret_cast<const uint4*>(packed + stem_block_channels + tap * tap_words)[lane];
            taps[0][tap] = four.x, taps[1][tap] = four.y, taps[2][tap] = four.z, taps[3][tap] = four.w;
        }
    }

    // Two outputs of a column, for the lane's channels 2 word and 2 word + 1. rows are four rows of three pixels.
    template <class T>
    __device__ __forceinline__ void convolve(const uint32_t (&rows)[4][3][lane_words], int word, float (&sums)[4]) const
    {
        const float start[4] = {bias[2 * word], bias[2 * word + 1], bias[2 * word], bias[2 * word + 1]};
        const auto pixel = [&](int tap, int i) { return rows[tap / 3 + i][tap % 3][word]; };
#pragma unroll
        for (int tap = 0; tap + 1 < kernel_taps; tap += 2) {
            const uint32_t a[4] = {pixel(tap, 0), pixel(tap, 1), pixel(tap + 1, 0), pixel(tap + 1, 1)};
            if (tap == 0)
                ptx::mma_m16n8k16<T>(sums, a, taps[word], start);
            else
                ptx::mma_m16n8k16<T>(sums, a, taps[word] + tap, sums);
        }
        constexpr int last = kernel_taps - 1;
        ptx::mma_m16n8k8<T>(sums, {pixel(last, 0), pixel(last, 1)}, taps[word][last]);
    }
};

// Tiles have 16 columns and 28 rows, or for small batches eight: both divide the 112 x 112 of MobileNetV2. The stem's outputs
// that 28 rows see are 1.21 times as many as their own, those of eight rows 1.41.
template <class Element, int stem_stride, int tile_rows>
struct StemBlock {
    using T = Element;
    static constexpr int stride = stem_stride, blocks_per_sm = 3;  // of 168 registers a thread
    static constexpr int rows = tile_rows, columns = 16, warps = 4, threads = 32 * warps;
    static constexpr int column_warps = columns / 8, strip_rows = rows / (warps / column_warps);
    static constexpr int hidden_rows = rows + 2, hidden_columns = columns + 2, hidden = hidden_rows * hidden_columns;
    static constexpr int pixel_bytes = stem_block_channels * 2;
    using Tile = StemTile<T, stride, hidden_rows, hidden_columns>;
    static constexpr int hidden_at = (Tile::bytes + 127) / 128 * 128, shared_bytes = hidden_at + hidden * pixel_bytes;

    static constexpr int depthwise_at = StemFragments::words;
    static constexpr int project_at = depthwise_at + DepthwiseFragments::words;
    static constexpr int project_words =
        stem_block_out_channels + project_steps * project_column_tiles * StemFragments::fragment_words;
    static constexpr int packed_words = project_at + project_words;
    static_assert(strip_rows % 2 == 0);
};

struct StemBlockArguments {
    StemInput x;
    const uint32_t* packed;
    void* y;
    int stem_padding_top, stem_padding_left, padding_top, padding_left;
    int hidden_height, hidden_width, out_height, out_width;
    int tile_rows, tile_columns;
    int64_t tiles;
    float stem_high, high;  // of the clamps, whose low end is 0
};

// The stem's outputs of a tile into shared memory, 0 outside of its image.
template <class Block>
__device__ __forceinline__ void fill_hidden(const StemBlockArguments& p, const uint8_t* inputs, int first_row, int first_column,
                                            uint8_t* hidden)
{
    using T = typename Block::T;
    const int lane = threadIdx.x % 32, quad = lane % 4;
    const uint32_t high = ptx::pack2<T>(p.stem_high, p.stem_high);
    StemFragments weights;
    weights.load(p.packed, lane);
    for (int first = threadIdx.x / 32 * 16; first < Block::hidden; first += Block::warps * 16) {
        const int pixels[2] = {first + lane / 4, first + lane / 4 + 8};
        uint32_t windows[2][stem_slots];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const int pixel = min(pixels[i], Block::hidden - 1);
            Block::Tile::load_window(inputs, pixel / Block::hidden_columns, pixel % Block::hidden_columns, quad, windows[i]);
        }
        float sums[stem_column_tiles][4];
        __syncwarp();
        weights.convolve<T>(windows[0], windows[1], sums);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            if (pixels[i] >= Block::hidden) continue;
            const int y = first_row + pixels[i] / Block::hidden_columns, x = first_column + pixels[i] % Block::hidden_columns;
            const bool inside = static_cast<unsigned>(y) < static_cast<unsigned>(p.hidden_height) &&
                                static_cast<unsigned>(x) < static_cast<unsigned>(p.hidden_width);
            uint32_t pairs[stem_column_tiles];
#pragma unroll
            for (int n = 0; n < stem_column_tiles; ++n) {
                const uint32_t pair = ptx::min2<T>(ptx::pack2_relu<T>(sums[n][2 * i], sums[n][2 * i + 1]), high);
                pairs[n] = inside ? pair : 0u;
            }
            *reinterpret_cast<uint4*>(hidden + pixels[i] * Block::pixel_bytes + quad * 16) = {pairs[0], pairs[1], pairs[2],
                                                                                              pairs[3]};
        }
    }
}

__device__ __forceinline__ void load_row(const uint8_t* left, int pixel_bytes, uint32_t (&row)[3][lane_words])
{
#pragma unroll
    for (int i = 0; i < 3; ++i) {
        const uint4 four = *reinterpret_cast<const uint4*>(left + i * pixel_bytes);
        row[i][0] = four.x, row[i][1] = four.y, row[i][2] = four.z, row[i][3] = four.w;
    }
}

// The projection's fragments: lanes of index quad have the channels from 4 quad on.
struct ProjectFragments {
    uint32_t b[project_steps][project_column_tiles][2];
    float bias[project_column_tiles][2];

    __device__ __forceinline__ ProjectFragments(const uint32_t* packed, int lane)
    {
        const float4 four = reinterpret_cast<const float4*>(packed)[lane % 4];
        bias[0][0] = four.x, bias[0][1] = four.y, bias[1][0] = four.z, bias[1][1] = four.w;
#pragma unroll
        for (int step = 0; step < project_steps; ++step)
#pragma unroll
            for (int n = 0; n < project_column_tiles; ++n) {
                const uint32_t* const from =
                    packed + stem_block_out_channels + (step * project_column_tiles + n) * StemFragments::fragment_words;
                const uint2 pair = reinterpret_cast<const uint2*>(from)[lane];
                b[step][n][0] = pair.x, b[step][n][1] = pair.y;
            }
    }
};

// A warp's outputs: eight columns of a strip of rows.
template <class Block>
__device__ __forceinline__ void make_strip(const StemBlockArguments& p, const uint8_t* hidden, int64_t image, int first_row,
                                           int first_column)
{
    using T = typename Block::T;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, quad = lane % 4;
    const int row = warp / Block::column_warps * Block::strip_rows, column = warp % Block::column_warps * 8 + lane / 4;
    const uint32_t high = ptx::pack2<T>(p.high, p.high);
    const ProjectFragments project(p.packed + Block::project_at, lane);
    const DepthwiseFragments depthwise(p.packed + Block::depthwise_at, lane);
    constexpr int row_bytes = Block::hidden_columns * Block::pixel_bytes;
    const uint8_t* from = hidden + row * row_bytes + column * Block::pixel_bytes + quad * 16;
    uint32_t rows[4][3][lane_words];
    load_row(from, Block::pixel_bytes, rows[2]);
    load_row(from + row_bytes, Block::pixel_bytes, rows[3]);

    const int x = first_column + column;
    T* const output = static_cast<T*>(p.y) + image * p.out_height * p.out_width * stem_block_out_channels;
#pragma unroll 1
    for (int y = first_row + row; y < first_row + row + Block::strip_rows && y < p.out_height; y += 2) {
        from += 2 * row_bytes;
#pragma unroll
        for (int i = 0; i < 2; ++i) {
#pragma unroll
            for (int j = 0; j < 3 * lane_words; ++j)
                rows[i][j / lane_words][j % lane_words] = rows[i + 2][j / lane_words][j % lane_words];
        }
#pragma unroll
        for (int i = 0; i < 2; ++i) load_row(from + i * row_bytes, Block::pixel_bytes, rows[i + 2]);
        uint32_t a[project_steps][4];
#pragma unroll
        for (int word = 0; word < lane_words; ++word) {
            float sums[4];
            depthwise.convolve<T>(rows, word, sums);
#pragma unroll
            for (int i = 0; i < 2; ++i)
                a[word / 2][word % 2 * 2 + i] = ptx::min2<T>(ptx::pack2_relu<T>(sums[2 * i], sums[2 * i + 1]), high);
        }
        float result[project_column_tiles][4];
#pragma unroll
        for (int n = 0; n < project_column_tiles; ++n) {
            const float start[4] = {project.bias[n][0], project.bias[n][1], project.bias[n][0], project.bias[n][1]};
            ptx::mma_m16n8k16<T>(result[n], a[0], project.b[0][n], start);
            ptx::mma_m16n8k16<T>(result[n], a[1], project.b[1][n], result[n]);
        }
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            if (y + i >= p.out_height || x >= p.out_width) continue;
            T* const pixel = output + (static_cast<int64_t>(y + i) * p.out_width + x) * stem_block_out_channels;
            *reinterpret_cast<uint2*>(pixel + quad * 4) = {ptx::pack2<T>(result[0][2 * i], result[0][2 * i + 1]),
                                                           ptx::pack2<T>(result[1][2 * i], result[1][2 * i + 1])};
        }
        __syncwarp();
    }
}

template <class Block>
__global__ void __launch_bounds__(Block::threads, Block::blocks_per_sm) stem_block_kernel(StemBlockArguments p)
{
    MNV2_DYNAMIC_SHARED(shared);
    uint8_t* const hidden = shared + Block::hidden_at;
    const int64_t tiles_per_image = static_cast<int64_t>(p.tile_rows) * p.tile_columns;
    for (int64_t tile = blockIdx.x; tile < p.tiles; tile += gridDim.x) {
        const int64_t image = tile / tiles_per_image;
        const auto place = static_cast<int>(tile % tiles_per_image);
        const int row = place / p.tile_columns * Block::rows, column = place % p.tile_columns * Block::columns;
        const int hidden_row = row - p.padding_top, hidden_column = column - p.padding_left;
        const uint8_t* const inputs =
            Block::Tile::read(p.x, image, hidden_row * Block::stride - p.stem_padding_top,
                              hidden_column * Block::stride - p.stem_padding_left, shared, threadIdx.x, Block::threads);
        __syncthreads();  // after which no warp is in the tile before
        fill_hidden<Block>(p, inputs, hidden_row, hidden_column, hidden);
        __syncthreads();
        make_strip<Block>(p, hidden, image, row, column);
    }
}

}  // namespace mnv2::cuda
