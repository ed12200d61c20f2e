// Convolves a chunk's expanded pixels depthwise, projects the outcome and stores the sums.
#pragma once

#include <cstdint>

#include "cuda/common/depthwise.cuh"
#include "cuda/common/ptx.cuh"
#include "cuda/tile_block/region.cuh"
#include "cuda/tile_block/weights.cuh"

namespace mnv2::cuda {

// The depthwise outputs of a lane's stacked patches for 16 channels, as the A fragments of their row tiles.
template <class Tile>
__device__ __forceinline__ void convolve_patches(const TileArguments& p, const Lane& lane, const uint8_t* window_start,
                                                 const uint8_t* constants, int k, uint32_t high,
                                                 uint32_t (&a)[Tile::stack_tiles][4])
{
    using T = typename Tile::T;
    constexpr int height = (Tile::stack * patch_size - 1) * Tile::stride + kernel_size;
    constexpr int width = (patch_size - 1) * Tile::stride + kernel_size;
    uint32_t constant[lane_constants];
#pragma unroll
    for (int i = 0; i < lane_constants; i += 4) {
        const uint4 words = ptx::load_shared<uint4>(constants + ((k * 4 + lane.quad) * lane_constants + i) * 4);
        constant[i] = words.x, constant[i + 1] = words.y, constant[i + 2] = words.z, constant[i + 3] = words.w;
    }
    uint32_t taps[2][kernel_taps];
#pragma unroll
    for (int i = 0; i < kernel_taps; ++i)
#pragma unroll
        for (int pair = 0; pair < 2; ++pair) taps[pair][i] = constant[i * 2 + pair];
    uint32_t expanded[2][height][width];
#pragma unroll
    for (int y = 0; y < height; ++y)
#pragma unroll
        for (int x = 0; x < width; ++x) {
            const int place = expanded_place<Tile>(p, 0, y, x);
            const uint2 words = ptx::load_shared<uint2>(window_start + (place * expanded_row + k * 16) * sizeof(T));
            expanded[0][y][x] = words.x;
            expanded[1][y][x] = words.y;
        }
#pragma unroll
    for (int y = 0; y < Tile::stack_tiles; ++y)
#pragma unroll
        for (int pair = 0; pair < 2; ++pair)
#pragma unroll
            for (int x = 0; x < patch_size; ++x) {
                uint32_t window[kernel_taps];
#pragma unroll
                for (int i = 0; i < kernel_taps; ++i)
                    window[i] = expanded[pair][y * Tile::stride + i / 3][x * Tile::stride + i % 3];
                a[y][pair * 2 + x] = depthwise<T>(window, taps[pair], constant[kernel_taps * 2 + pair], high);
            }
}

template <class Tile>
using ProjectSums = float[Tile::row_tiles][2 * Tile::column_pairs][4];

// The part of a tile that a warp projects: row tiles from `row_tile` on, column pairs from `pair` on, `pairs` of them.
struct Part {
    int row_tile, pair, pairs;
};

template <class Tile>
__device__ __forceinline__ Part part_of(const TileArguments& p, const Lane& lane)
{
    if constexpr (Tile::direct) return {lane.warp * Tile::row_tiles, 0, pair_count<Tile>(p)};
    const int pair = lane.warp / p.row_groups * p.warp_pairs;
    return {lane.warp % p.row_groups * Tile::row_tiles, pair, min(p.warp_pairs, pair_count<Tile>(p) - pair)};
}

template <class Tile>
__device__ __forceinline__ void project(const TileArguments& p, const Lane& lane, const Part& part, const uint8_t* weights,
                                        int k, const uint32_t (&a)[Tile::row_tiles][4], ProjectSums<Tile>& sum)
{
    const uint8_t* const fragments = weights + (k * pair_count<Tile>(p) + part.pair) * fragment_bytes + lane.lane * 16;
#pragma unroll
    for (int n = 0; n < Tile::column_pairs; ++n) {
        if (Tile::out_channels == 0 && n >= part.pairs) break;
        const uint4 b = ptx::load_shared<uint4>(fragments + n * fragment_bytes);
#pragma unroll
        for (int m = 0; m < Tile::row_tiles; ++m) mma_pair<typename Tile::T>(sum[m][2 * n], sum[m][2 * n + 1], a[m], b);
    }
}

// Where the exchanged A fragments of a chunk are.
__device__ __forceinline__ uint8_t* exchange_of(const TileArguments& p, uint8_t* shared, int chunk)
{
    return shared + p.exchange_at + chunk % 2 * p.exchange_bytes;
}

__device__ __forceinline__ int exchange_place(const Lane& lane, int tile, int k)
{
    return (tile * chunk_depths + k) * fragment_bytes + lane.lane * 16;
}

// Stores the depthwise outputs of the whole tile in shared memory. A unit is a stack of strips in 16 channels.
template <class Tile>
__device__ __forceinline__ void convolve_to_exchange(const TileArguments& p, const Lane& lane, const uint8_t* expanded,
                                                     const uint8_t* constants, uint32_t high, uint8_t* exchange)
{
#pragma unroll 1
    for (int unit = lane.warp; unit < p.strips / Tile::stack * chunk_depths; unit += p.workers) {
        const int strip = unit / chunk_depths * Tile::stack, k = unit % chunk_depths;
        uint32_t a[Tile::stack_tiles][4];
        convolve_patches<Tile>(p, lane, expanded + window_at<Tile>(p, lane, strip), constants, k, high, a);
#pragma unroll
        for (int m = 0; m < Tile::stack_tiles; ++m)
            ptx::store_shared(exchange + exchange_place(lane, strip * strip_tiles + m, k),
                              uint4{a[m][0], a[m][1], a[m][2], a[m][3]});
    }
}

template <class Tile>
__device__ __forceinline__ void project_exchanged(const TileArguments& p, const Lane& lane, const Part& part,
                                                  const uint8_t* exchange, const uint8_t* weights, ProjectSums<Tile>& sum)
{
    __syncwarp();
#pragma unroll
    for (int k = 0; k < chunk_depths; ++k) {
        uint32_t a[Tile::row_tiles][4];
#pragma unroll
        for (int m = 0; m < Tile::row_tiles; ++m) {
            const uint4 words = ptx::load_shared<uint4>(exchange + exchange_place(lane, part.row_tile + m, k));
            a[m][0] = words.x, a[m][1] = words.y, a[m][2] = words.z, a[m][3] = words.w;
        }
        project<Tile>(p, lane, part, weights, k, a, sum);
    }
}

template <class Tile>
__device__ __forceinline__ void convolve_and_project(const TileArguments& p, const Lane& lane, const Part& part,
                                                     const uint8_t* window_start, const StepWeights<Tile>& weights,
                                                     uint32_t high, ProjectSums<Tile>& sum)
{
#pragma unroll
    for (int k = 0; k < chunk_depths; ++k) {
        uint32_t a[Tile::stack_tiles][4];
        convolve_patches<Tile>(p, lane, window_start, weights.depthwise(), k, high, a);
        __syncwarp();
        project<Tile>(p, lane, part, weights.project(), k, a, sum);
    }
}

// Bias and shortcut in float, then one rounding; a lane stores four neighbouring channels.
template <class Tile>
__device__ __forceinline__ void store_part(const TileArguments& p, const Region& r, const Lane& lane, const Part& part,
                                           const ProjectSums<Tile>& sum)
{
    using T = typename Tile::T;
    const int channels = out_channel_count<Tile>(p);
#pragma unroll
    for (int m = 0; m < Tile::row_tiles; ++m) {
        const int tile = part.row_tile + m;
        const Pixel patch = patch_of<Tile>(p, lane, tile / strip_tiles);
        const int y = r.out_y + patch.y + tile % strip_tiles;
        const int64_t image = r.image + patch.image;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int x = r.out_x + patch.x + half;
            if (image >= p.batch || y >= p.out_height || x >= p.out_width) continue;
            const int64_t pixel = ((image * p.out_height + y) * p.out_width + x) * channels;
#pragma unroll
            for (int n = 0; n < Tile::column_pairs; ++n) {
                const int channel = (part.pair + n) * 16 + lane.quad * 4;
                if (n >= part.pairs || channel >= channels) break;
                const float4 bias = ptx::load_global<float4>(p.packed + channel * sizeof(float));
                const float* const even = sum[m][2 * n] + half * 2;
                const float* const odd = sum[m][2 * n + 1] + half * 2;
                float2 low{even[0] + bias.x, even[1] + bias.y}, high{odd[0] + bias.z, odd[1] + bias.w};
                if (Tile::stride == 1 && p.residual) {
                    const uint2 shortcut = ptx::load_global<uint2>(static_cast<const T*>(p.input) + pixel + channel);
                    const float2 x_low = ptx::unpack2<T>(shortcut.x), x_high = ptx::unpack2<T>(shortcut.y);
                    low = {low.x + x_low.x, low.y + x_low.y};
                    high = {high.x + x_high.x, high.y + x_high.y};
                }
                ptx::store_global(static_cast<T*>(p.output) + pixel + channel,
                                  uint2{ptx::pack2<T>(low.x, low.y), ptx::pack2<T>(high.x, high.y)});
            }
        }
    }
}

}  // namespace mnv2::cuda
