// The forms of cluster_block's kernel, and what a launch tells it.
#pragma once

#include "cuda/tile_block/config.h"

namespace mnv2::cuda {

constexpr int cluster_blocks = 8;   // the most that every GPU with clusters can launch
constexpr int most_part_tiles = 2;  // row tiles that a warp projects; each has its own sums

// The chunks of one thread block.
struct Share {
    int first, chunks;
};

// A warp fetches the project layer's weights prefetched_chunks ahead; L2 answers within the time of about four chunks.
struct ClusterShape {
    int stride = 1, prefetched_chunks = 8;

    bool operator==(const ClusterShape&) const = default;

    // A warp expands one row tile at a time, as there are fewer of them than warps. Blocks of V2 1.0 have 4, 6 and 10 depths.
    constexpr TileShape tile() const
    {
        return {.stride = stride, .row_tiles = 1, .column_pairs = 1, .unit_tiles = 1, .unrolled_depths = 2};
    }
};

// The last one serves where shared memory is too small for eight chunks of the project layer's weights, as for MobileNetV2
// 1.4's last block; no block of stride 2 is so wide.
constexpr ClusterShape cluster_shapes[] = {{.stride = 2}, {.stride = 1}, {.stride = 1, .prefetched_chunks = 6}};

template <class T, ClusterShape shape>
struct ClusterTile : TileBlock<T, shape.tile()> {
    static constexpr int prefetched_chunks = shape.prefetched_chunks;

    static constexpr Share share_of(int chunks, int rank)
    {
        const int first = chunks * rank / cluster_blocks, end = chunks * (rank + 1) / cluster_blocks;
        return {first, end - first};
    }
};

struct ClusterArguments {
    TileArguments tile;
    int most_chunks;               // the most chunks that a thread block expands
    int row_parts, part_tiles;     // thread blocks that share the row tiles, and the row tiles that each projects
    int column_parts, part_pairs;  // thread blocks that share the column tiles, and the pairs that each projects
    int columns_at;                // where the project layer's weights start in shared memory
};

}  // namespace mnv2::cuda
