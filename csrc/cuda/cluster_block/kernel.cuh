// tile_block's inverted residual for few images, on GPUs with thread block clusters (compute capability 9.0 and up): from
// the same packed weights, to the same bits.
//
// A cluster of eight thread blocks makes a tile. Each of them
//   - expands its share of the chunks for all pixels of the tile, convolves them depthwise, and stores the outputs, as A
//     fragments, in the shared memory of the blocks that multiply by them;
//   - after the cluster's barrier projects its part of the output, some row tiles by some pairs of column tiles, over all
//     chunks in order. A warp takes a pair of column tiles.
// So a cluster reads the expand layer's weights once, the project layer's once for each part of its row tiles. Thread blocks
// store to one another and never load: they wait for another multiprocessor's memory at the barrier only, and none has to
// stay for others to read from.
//
// What does not depend on other thread blocks starts early: the share's weights at once, and the project layer's first
// chunks before the barrier.
#pragma once

#include <cstdint>

#include "cuda/cluster_block/config.h"
#include "cuda/common/ptx.cuh"
#include "cuda/tile_block/expand.cuh"
#include "cuda/tile_block/input.cuh"
#include "cuda/tile_block/project.cuh"
#include "cuda/tile_block/weights.cuh"

namespace mnv2::cuda {

constexpr int share_bytes(int depths)
{
    return expand_bytes(depths) + depthwise_bytes;
}

// The expand and depthwise layers' weights of one of a block's chunks.
__device__ __forceinline__ ChunkWeights share_weights(const TileArguments& p, uint8_t* shared, int chunk)
{
    return {shared + p.weights_at + chunk * share_bytes(p.depths), p.depths};
}

__device__ __forceinline__ void fetch_share(const TileArguments& p, const Share& share, uint8_t* shared)
{
    const int bytes = chunk_bytes(p.depths, p.pairs);
    for (int i = 0; i < share.chunks; ++i)
        copy_to_shared(share_weights(p, shared, i).expand(),
                       packed_chunks(p, p.pairs) + static_cast<int64_t>(share.first + i) * bytes, share_bytes(p.depths));
    ptx::cp_async_commit();
}

// What a warp projects: `tiles` row tiles from `row_tile` on, and a pair of column tiles. Some warps have no pair.
struct ClusterPart {
    int row_tile, tiles, pair;
    bool exists;

    __device__ __forceinline__ bool has(int tile) const { return tile == 0 || tile < tiles; }
};

__device__ __forceinline__ ClusterPart cluster_part_of(const ClusterArguments& p, const Lane& lane, int rank)
{
    const int row_tile = rank % p.row_parts * p.part_tiles;
    const int tiles = min(p.part_tiles, p.tile.strips * strip_tiles - row_tile);
    const int pair = rank / p.row_parts * p.part_pairs + lane.warp;
    return {row_tile, tiles, pair, tiles > 0 && lane.warp < p.part_pairs && pair < p.tile.pairs};
}

// The project layer's weights of a warp's pair of column tiles, fetched some chunks ahead of their use. Each lane copies what
// it multiplies by, so that it waits for no other lane.
template <class Tile>
class ColumnWeights {
public:
    __device__ __forceinline__ ColumnWeights(const ClusterArguments& p, const Lane& lane, const ClusterPart& part,
                                             uint8_t* shared)
        : buffer_(shared + p.columns_at + (lane.warp * Tile::prefetched_chunks * chunk_depths) * fragment_bytes +
                  lane.lane * 16),
          packed_(packed_chunks(p.tile, p.tile.pairs) + expand_bytes(p.tile.depths) + depthwise_bytes +
                  part.pair * fragment_bytes + lane.lane * 16),
          chunk_stride_(chunk_bytes(p.tile.depths, p.tile.pairs)),
          depth_stride_(p.tile.pairs * fragment_bytes),
          chunks_(part.exists ? p.tile.chunks : 0)
    {
    }

    // Commits a group of copies; it is empty beyond the last chunk.
    __device__ __forceinline__ void fetch(int chunk) const
    {
        if (chunk < chunks_)
#pragma unroll
            for (int k = 0; k < chunk_depths; ++k)
                ptx::cp_async16(place(chunk, k), packed_ + static_cast<int64_t>(chunk) * chunk_stride_ + k * depth_stride_);
        ptx::cp_async_commit();
    }

    __device__ __forceinline__ uint4 fragment(int chunk, int k) const { return ptx::load_shared<uint4>(place(chunk, k)); }

private:
    __device__ __forceinline__ uint8_t* place(int chunk, int k) const
    {
        return buffer_ + (chunk % Tile::prefetched_chunks * chunk_depths + k) * fragment_bytes;
    }

    uint8_t* buffer_;
    const uint8_t* packed_;
    int chunk_stride_, depth_stride_, chunks_;
};

// A warp loads some depths of each row tile: there are fewer row tiles than warps, and loads from L2 take long.
template <class Tile>
__device__ __forceinline__ void fill_input(const TileArguments& p, const Region& r, const Lane& lane,
                                           const InputUnits<Tile>& input)
{
    const int tiles = p.units * Tile::unit_tiles;
#pragma unroll 2
    for (int i = lane.warp; i < tiles * p.depths; i += Tile::most_warps) {
        const int tile = i % tiles, k = i / tiles;
        uint32_t a[4];
        InputTile<Tile>(p, r, lane, tile).load(k, a);
        input.store_fragment(p, lane, tile, k, a);
        if (k == 0) input.store_places(p, r, lane, tile);
    }
}

template <class Tile>
__device__ __forceinline__ void expand_share(const TileArguments& p, const Lane& lane, const InputUnits<Tile>& input,
                                             const Share& share, uint32_t high, uint8_t* shared)
{
#pragma unroll 1
    for (int i = lane.warp; i < share.chunks * p.units; i += Tile::most_warps) {
        const int chunk = i / p.units;
        const int live = p.expanded_channels - (share.first + chunk) * chunk_channels;
        expand_unit<Tile>(p, lane, input, i % p.units, share_weights(p, shared, chunk), live, high,
                          shared + chunk * p.expanded_bytes);
    }
}

// Where a row tile's A fragment of the depthwise outputs lies in the blocks that project it: `depth` counts sixteens of
// expanded channels.
__device__ __forceinline__ int fragment_place(const ClusterArguments& p, const Lane& lane, int tile, int depth)
{
    return p.tile.exchange_at + (tile * p.tile.chunks * chunk_depths + depth) * fragment_bytes + lane.lane * 16;
}

__device__ __forceinline__ void store_to_projecting_blocks(const ClusterArguments& p, const Lane& lane, int row_tile, int depth,
                                                           const uint32_t (&a)[4], uint8_t* shared)
{
    uint8_t* const place = shared + fragment_place(p, lane, row_tile % p.part_tiles, depth);
    for (int part = 0; part < p.column_parts; ++part) {
        const int rank = part * p.row_parts + row_tile / p.part_tiles;
        ptx::store_cluster(place, static_cast<uint32_t>(rank), uint4{a[0], a[1], a[2], a[3]});
    }
}

template <class Tile>
__device__ __forceinline__ void convolve_share(const ClusterArguments& p, const Lane& lane, const Share& share, uint32_t high,
                                               uint8_t* shared)
{
    const int strips = p.tile.strips;
#pragma unroll 1
    for (int i = lane.warp; i < share.chunks * strips * chunk_depths; i += Tile::most_warps) {
        const int k = i % chunk_depths, strip = i / chunk_depths % strips, chunk = i / chunk_depths / strips;
        const uint8_t* const expanded = shared + chunk * p.tile.expanded_bytes;
        uint32_t a[Tile::stack_tiles][4];
        convolve_patches<Tile>(p.tile, lane, expanded + window_at<Tile>(p.tile, lane, strip),
                               share_weights(p.tile, shared, chunk).depthwise(), k, high, a);
#pragma unroll
        for (int m = 0; m < Tile::stack_tiles; ++m)
            store_to_projecting_blocks(p, lane, strip * strip_tiles + m, (share.first + chunk) * chunk_depths + k, a[m],
                                       shared);
    }
}

// A chunk's fragments for a warp's products.
struct ChunkFragments {
    uint32_t a[chunk_depths][most_part_tiles][4];
    uint4 b[chunk_depths];
};

template <class Tile>
__device__ __forceinline__ void load_fragments(const ClusterArguments& p, const Lane& lane, const ClusterPart& part,
                                               const ColumnWeights<Tile>& columns, int chunk, const uint8_t* shared,
                                               ChunkFragments& fragments)
{
#pragma unroll
    for (int k = 0; k < chunk_depths; ++k) {
        fragments.b[k] = columns.fragment(chunk, k);
#pragma unroll
        for (int m = 0; m < most_part_tiles; ++m) {
            if (!part.has(m)) break;
            const uint4 words = ptx::load_shared<uint4>(shared + fragment_place(p, lane, m, chunk * chunk_depths + k));
            uint32_t (&a)[4] = fragments.a[k][m];
            a[0] = words.x, a[1] = words.y, a[2] = words.z, a[3] = words.w;
        }
    }
}

// The next chunk's fragments are loaded before the products of this one, which take longer.
template <class Tile>
__device__ __forceinline__ void project_part(const ClusterArguments& p, const Lane& lane, const ClusterPart& part,
                                             const ColumnWeights<Tile>& columns, const uint8_t* shared,
                                             ProjectSums<Tile> (&sum)[most_part_tiles])
{
    const int chunks = p.tile.chunks;
    ChunkFragments now{}, next{};
    constexpr int prefetched = Tile::prefetched_chunks;
    ptx::cp_async_wait<prefetched - 1>();
    load_fragments(p, lane, part, columns, 0, shared, now);
#pragma unroll 2
    for (int chunk = 0; chunk < chunks; ++chunk) {
        ptx::cp_async_wait<prefetched - 2>();
        if (chunk + 1 < chunks) load_fragments(p, lane, part, columns, chunk + 1, shared, next);
        __syncwarp();
#pragma unroll
        for (int k = 0; k < chunk_depths; ++k)
#pragma unroll
            for (int m = 0; m < most_part_tiles; ++m) {
                if (!part.has(m)) break;
                mma_pair<typename Tile::T>(sum[m][0][0], sum[m][0][1], now.a[k][m], now.b[k]);
            }
        columns.fetch(chunk + prefetched);  // in the place of this chunk, which registers hold by now
        now = next;
    }
}

template <class Tile>
__global__ void __launch_bounds__(32 * Tile::most_warps, 1) cluster_block_kernel(ClusterArguments p)
{
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    MNV2_DYNAMIC_SHARED(shared);
    ptx::cluster_arrive_relaxed();
    const int thread = threadIdx.x, rank = static_cast<int>(ptx::cluster_rank());
    const Lane lane{thread / 32, thread % 32, thread % 32 / 4, thread % 4};
    const Region region = region_of<Tile>(p.tile, blockIdx.x / cluster_blocks);
    const Share share = Tile::share_of(p.tile.chunks, rank);
    const ClusterPart part = cluster_part_of(p, lane, rank);
    const ColumnWeights<Tile> columns(p, lane, part, shared);
    const uint32_t high = ptx::pack2<typename Tile::T>(p.tile.high, p.tile.high);

    fetch_share(p.tile, share, shared);
#pragma unroll 1
    for (int chunk = 0; chunk < Tile::prefetched_chunks; ++chunk) columns.fetch(chunk);
    const InputUnits<Tile> input(p.tile, shared);
    fill_input<Tile>(p.tile, region, lane, input);
    zero_expanded(p.tile, shared, share.chunks);
    ptx::cp_async_wait<Tile::prefetched_chunks>();
    ptx::block_barrier();
    expand_share<Tile>(p.tile, lane, input, share, high, shared);
    ptx::block_barrier();
    ptx::cluster_wait();  // all blocks have started
    convolve_share<Tile>(p, lane, share, high, shared);
    ptx::cluster_arrive();
    ptx::cluster_wait();
    if (!part.exists) return;
    ProjectSums<Tile> sum[most_part_tiles] = {};
    project_part<Tile>(p, lane, part, columns, shared, sum);
#pragma unroll
    for (int m = 0; m < most_part_tiles; ++m)
        if (part.has(m)) store_part<Tile>(p.tile, region, lane, {part.row_tile + m, part.pair, 1}, sum[m]);
#endif
}

}  // namespace mnv2::cuda
