// The forms of cluster_block's kernel, and what a launch tells it.
#pragma once

#include "cuda/tile_block/config.h"

namespace mnv2::cuda {

constexpr int cluster_blocks = 8;   // the most that every GPU with clusters can launch
constexpr int most_part_tiles = 2;  // row tiles that a warp projects, each with sums of its own

// A block's chunks.
struct Share {
    int first, chunks;
};

// A warp expands one row tile at a time, as there are fewer of them than warps. It fetches the project layer's weights
// prefetched chunks ahead; L2 answers within the time of some four.
template <class T, int stride, int prefetched = 8>
struct ClusterTile : TileBlock<T, 0, 0, stride, false, false, 1, 1, 1, 1, 12> {
    static constexpr int unrolled_depths = 2;  // V2 1.0 has 4, 6 and 10
    static constexpr int prefetched_chunks = prefetched;

    static constexpr Share share_of(int chunks, int rank)
    {
        const int first = chunks * rank / cluster_blocks, end = chunks * (rank + 1) / cluster_blocks;
        return {first, end - first};
    }
};

struct ClusterArguments {
    TileArguments tile;
    int most_chunks;               // of a block's share
    int row_parts, part_tiles;     // of the projection: blocks beside each other over the row tiles, a block's row tiles
    int column_parts, part_pairs;  // the same over pairs of column tiles
    int columns_at;                // of the project layer's weights in shared memory
};

}  // namespace mnv2::cuda
