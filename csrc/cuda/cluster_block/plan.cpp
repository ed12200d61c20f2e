#include "cuda/cluster_block/plan.h"

#include <algorithm>

#include "cuda/tile_block/plan.h"

namespace mnv2::cuda {
namespace {

constexpr int32_t least_code = 90;  // has clusters

// Clusters that take no more than three quarters of the multiprocessors are expected to run at once: a cluster's blocks are
// neighbours in a graphics processing cluster, which has at most 18 multiprocessors on an H100.
constexpr int64_t resident_parts = 3, all_parts = 4;

// Cost of a row tile's fragments over the cost of the equally long weights of a pair of column tiles: an H100 moves about 14
// bytes a clock and multiprocessor between multiprocessors, and about 40 from L2 (published measurements).
constexpr int remote_cost = 3;

// Lays a cluster's blocks over row tiles and pairs of column tiles, so that the bytes that a block reads cost the least.
// Returns false where the warps of a block are too few for its part.
bool split_output(const TileShape& shape, ClusterArguments& a)
{
    int least = 0;
    for (int row_parts = cluster_blocks; row_parts >= 1; row_parts /= 2) {
        const int part_tiles = divide_up(a.tile.strips * strip_tiles, row_parts);
        const int part_pairs = divide_up(a.tile.pairs, cluster_blocks / row_parts);
        if (part_tiles > most_part_tiles || part_pairs > shape.most_warps) continue;
        const int cost = remote_cost * part_tiles + part_pairs;
        if (least != 0 && cost >= least) continue;
        least = cost;
        a.row_parts = row_parts;
        a.part_tiles = part_tiles;
        a.part_pairs = part_pairs;
        a.column_parts = divide_up(a.tile.pairs, part_pairs);
    }
    return least != 0;
}

void set_memory(const ClusterShape& shape, ClusterArguments& a)
{
    TileArguments& tile = a.tile;
    const int input_bytes = tile.units * shape.tile().unit_tiles * tile.depths * fragment_bytes;
    const int place_bytes = tile.units * shape.tile().unit_tiles * tile_pixels * static_cast<int>(sizeof(uint16_t));
    tile.expanded_bytes = round_up(tile.rows * tile.pitch * expanded_row * 2, 16);
    tile.input_at = a.most_chunks * tile.expanded_bytes;
    tile.place_at = tile.input_at + input_bytes;
    tile.weights_at = tile.place_at + place_bytes;
    tile.exchange_at = tile.weights_at + a.most_chunks * (expand_bytes(tile.depths) + depthwise_bytes);
    tile.exchange_bytes = a.part_tiles * tile.chunks * chunk_depths * fragment_bytes;
    a.columns_at = tile.exchange_at + tile.exchange_bytes;
    tile.shared_bytes = a.columns_at + a.part_pairs * shape.prefetched_chunks * chunk_depths * fragment_bytes;
}

ClusterPlan plan_of(const ClusterShape& shape, const InvertedResidualParams& params, int strips, int64_t shared_bytes)
{
    ClusterPlan plan{shape};
    ClusterArguments& a = plan.arguments;
    set_shape(params, a.tile);
    set_tile(shape.tile(), params, strips, 1, a.tile);
    a.most_chunks = divide_up(a.tile.chunks, cluster_blocks);
    if (!split_output(shape.tile(), a)) return plan;
    set_memory(shape, a);
    plan.fits = a.tile.shared_bytes <= shared_bytes;
    plan.clusters = params.batch * a.tile.tile_rows * a.tile.tile_columns;
    return plan;
}

}  // namespace

bool has_clusters(const Gpu& gpu)
{
    return gpu.code >= least_code;
}

ClusterPlan best_cluster_plan(const ClusterShape& shape, const InvertedResidualParams& params, const Gpu& gpu)
{
    ClusterPlan best{shape};
    const int strip_height = is_narrow(params) ? 2 * patch_size : patch_size;
    const auto most_strips = static_cast<int>(divide_up(params.out_height(), int64_t{strip_height}));
    for (int strips = 1; strips <= most_strips; ++strips) {
        const ClusterPlan plan = plan_of(shape, params, strips, gpu.shared_bytes);
        if (!plan.fits) break;
        best = plan;
        if (plan.clusters * cluster_blocks * all_parts <= gpu.sm_count * resident_parts) break;
    }
    return best;
}

ClusterPlan plan_clusters(const InvertedResidualParams& params, const Gpu& gpu)
{
    ClusterPlan plan;
    for (const ClusterShape& shape : cluster_shapes) {
        if (shape.stride != params.stride) continue;
        plan = best_cluster_plan(shape, params, gpu);
        if (plan.fits) break;
    }
    return plan;
}

}  // namespace mnv2::cuda
