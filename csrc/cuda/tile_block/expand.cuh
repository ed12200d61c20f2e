// Expands input pixels to expanded pixels in shared memory, a chunk of channels at a time.
#pragma once

#include <cstdint>

#include "cuda/common/ptx.cuh"
#include "cuda/tile_block/input.cuh"

namespace mnv2::cuda {

// Sets the first `tiles` expanded tiles to zero.
__device__ __forceinline__ void zero_expanded(const TileArguments& p, uint8_t* shared, int tiles)
{
    for (int at = threadIdx.x * 16; at < tiles * p.expanded_bytes; at += blockDim.x * 16)
        ptx::store_shared(shared + at, uint4{0, 0, 0, 0});
}

// d += a b for both column tiles of a fragment pair.
template <class T>
__device__ __forceinline__ void mma_pair(float (&even)[4], float (&odd)[4], const uint32_t (&a)[4], const uint4& b)
{
    const uint32_t first[2] = {b.x, b.y}, second[2] = {b.z, b.w};
    ptx::mma_m16n8k16<T>(even, a, first, even);
    ptx::mma_m16n8k16<T>(odd, a, second, odd);
}

// Pairs of column tiles that a warp makes at a time: the whole chunk or, where its registers hold the input pixels, one pair.
template <class Tile>
constexpr int expand_pairs = Tile::held ? 1 : chunk_pairs;
template <class Tile>
using ExpandSums = float[Tile::unit_tiles][2 * expand_pairs<Tile>][4];

template <class Tile>
__device__ __forceinline__ void start_from_bias(const Lane& lane, const uint8_t* bias, ExpandSums<Tile>& sum)
{
#pragma unroll
    for (int n = 0; n < 2 * expand_pairs<Tile>; ++n) {
        const float2 pair = ptx::load_shared<float2>(bias + (n * 8 + lane.quad * 2) * sizeof(float));
#pragma unroll
        for (int m = 0; m < Tile::unit_tiles; ++m) {
            sum[m][n][0] = sum[m][n][2] = pair.x;
            sum[m][n][1] = sum[m][n][3] = pair.y;
        }
    }
}

// Channels that only fill the last chunk are 0: their weights are, but 0 times an infinity is not.
template <class Tile>
__device__ __forceinline__ void clear_padding(const Lane& lane, int live, ExpandSums<Tile>& sum)
{
#pragma unroll
    for (int n = 0; n < 2 * expand_pairs<Tile>; ++n)
#pragma unroll
        for (int m = 0; m < Tile::unit_tiles; ++m)
#pragma unroll
            for (int i = 0; i < 4; ++i)
                if (n * 8 + lane.quad * 2 + i % 2 >= live) sum[m][n][i] = 0.0f;
}

template <class Tile>
__device__ __forceinline__ void store_expanded(const Lane& lane, const InputUnits<Tile>& input, int unit, uint32_t high,
                                               const ExpandSums<Tile>& sum, uint8_t* expanded)
{
    using T = typename Tile::T;
#pragma unroll
    for (int m = 0; m < Tile::unit_tiles; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const uint16_t place = input.place(lane, unit, m, half);
            if (place == outside) continue;
            uint8_t* const row = expanded + (place * expanded_row + lane.quad * 2) * sizeof(T);
#pragma unroll
            for (int n = 0; n < 2 * expand_pairs<Tile>; ++n)
                ptx::store_shared(row + n * 8 * sizeof(T),
                                  ptx::min2<T>(ptx::pack2_relu<T>(sum[m][n][half * 2], sum[m][n][half * 2 + 1]), high));
        }
}

// Expands a unit of input pixels in a chunk, of which the first `live` channels exist. `weights` has its fragments and bias.
template <class Tile, class Weights>
__device__ __forceinline__ void expand_unit(const TileArguments& p, const Lane& lane, const InputUnits<Tile>& input, int unit,
                                            const Weights& weights, int live, uint32_t high, uint8_t* expanded)
{
    using T = typename Tile::T;
    constexpr int pairs = expand_pairs<Tile>;
    [[maybe_unused]] constexpr int unrolled = Tile::unrolled_depths;  // nvcc warns that the pragma alone does not use it
#pragma unroll
    for (int first = 0; first < chunk_pairs; first += pairs) {
        ExpandSums<Tile> sum;
        start_from_bias<Tile>(lane, weights.expand_bias() + first * 16 * sizeof(float), sum);
        __syncwarp();
#pragma unroll unrolled
        for (int k = 0; k < depth_count<Tile>(p); ++k) {
            uint32_t a[Tile::unit_tiles][4];
#pragma unroll
            for (int m = 0; m < Tile::unit_tiles; ++m) input.fragment(p, lane, unit, m, k, a[m]);
#pragma unroll
            for (int n = 0; n < pairs; ++n) {
                const uint8_t* const fragment = weights.expand() + (k * chunk_pairs + first + n) * fragment_bytes;
                const uint4 b = ptx::load_shared<uint4>(fragment + lane.lane * 16);
#pragma unroll
                for (int m = 0; m < Tile::unit_tiles; ++m) mma_pair<T>(sum[m][2 * n], sum[m][2 * n + 1], a[m], b);
            }
        }
        if (live < chunk_channels) clear_padding<Tile>(lane, live - first * 16, sum);
        store_expanded<Tile>(lane, input, unit, high, sum, expanded + first * 16 * sizeof(T));
    }
}

}  // namespace mnv2::cuda
