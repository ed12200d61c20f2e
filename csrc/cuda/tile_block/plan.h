// How tile_block's kernels cover an image with tiles.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/block.h"
#include "cuda/launch.h"
#include "cuda/tile_block/config.h"

namespace mnv2::cuda {

constexpr int wanted_warps = 8;  // of a block of the shared form

inline int depths_of(const InvertedResidualParams& params)
{
    return static_cast<int>(divide_up(params.in_channels, 16));
}

inline int pairs_of(const InvertedResidualParams& params)
{
    return static_cast<int>(divide_up(params.out_channels, 16));
}

inline int chunks_of(const InvertedResidualParams& params)
{
    return static_cast<int>(divide_up(params.expanded_channels, chunk_channels));
}

inline int64_t bias_bytes(const InvertedResidualParams& params)
{
    return pairs_of(params) * int64_t{16} * static_cast<int64_t>(sizeof(float));
}

inline int64_t packed_bytes(const InvertedResidualParams& params)
{
    return bias_bytes(params) + int64_t{chunks_of(params)} * chunk_bytes(depths_of(params), pairs_of(params));
}

// A tile by its strips and images; warps is 0 where the kernel cannot make it.
struct Plan {
    TileArguments arguments{};
    int warps = 0;
    int64_t blocks = 0;
};

inline void set_shape(const InvertedResidualParams& params, TileArguments& a)
{
    a.batch = params.batch;
    a.in_channels = static_cast<int>(params.in_channels);
    a.expanded_channels = static_cast<int>(params.expanded_channels);
    a.out_channels = static_cast<int>(params.out_channels);
    a.depths = depths_of(params);
    a.pairs = pairs_of(params);
    a.chunks = chunks_of(params);
    a.height = static_cast<int>(params.height);
    a.width = static_cast<int>(params.width);
    a.out_height = static_cast<int>(params.out_height());
    a.out_width = static_cast<int>(params.out_width());
    a.padding_top = params.padding.top;
    a.padding_left = params.padding.left;
    a.high = clamp_of(params.activation).high;
    a.residual = params.has_residual;
}

inline bool is_narrow(const InvertedResidualParams& params)
{
    return params.out_width() <= strip_patches / 2 * patch_size;
}

template <class Tile>
void set_tile(const InvertedResidualParams& params, int strips, int images, TileArguments& a)
{
    const bool narrow = is_narrow(params);
    const int stride = params.stride, strip_width = strip_patches * patch_size;
    a.strips = strips;
    a.images = images;
    a.strip_height = narrow && images == 1 ? 2 * patch_size : patch_size;
    a.tile_rows = divide_up(a.out_height, strips * a.strip_height);
    a.tile_columns = divide_up(a.out_width, strip_width);
    a.patches_across = narrow ? strip_patches / 2 : strip_patches;
    a.patch_columns = std::min(a.patches_across, divide_up(a.out_width, patch_size));
    a.rows = (strips * a.strip_height - 1) * stride + static_cast<int>(kernel_size);
    a.columns = (a.patch_columns * patch_size - 1) * stride + static_cast<int>(kernel_size);
    const int even_columns = (a.columns + 1) / 2;
    a.odd_at = round_up(even_columns + 4, 8) - 4;  // so that neighbours' banks stay apart
    a.pitch = stride == 1 ? a.columns : a.odd_at + a.columns / 2;
    const int pixels = images * std::min(a.rows, a.height) * std::min(a.columns, a.width);
    a.units = divide_up(pixels, Tile::unit_tiles * tile_pixels);
}

template <class Tile>
void set_memory(TileArguments& a)
{
    a.hidden_bytes = round_up(a.images * a.rows * a.pitch * hidden_row * 2, 16);
    a.exchange_at = 2 * a.hidden_bytes;
    a.exchange_bytes = Tile::direct ? 0 : a.strips * strip_tiles * chunk_depths * fragment_bytes;
    a.input_at = a.exchange_at + 2 * a.exchange_bytes;
    a.place_at = a.input_at + (Tile::held ? 0 : a.units * Tile::unit_tiles * a.depths * fragment_bytes);
    a.weights_at =
        a.place_at + (Tile::held ? 0 : a.units * Tile::unit_tiles * tile_pixels * static_cast<int>(sizeof(uint16_t)));
    a.shared_bytes = a.weights_at + Tile::weight_buffers * chunk_bytes(a.depths, a.pairs);
}

// Splits the projection over warps; returns how many, 0 where accumulators do not suffice.
template <class Tile>
int split_projection(TileArguments& a)
{
    if (a.strips % Tile::stack != 0) return 0;
    if (Tile::direct) return a.pairs <= Tile::column_pairs ? a.strips / Tile::stack : 0;
    if (a.strips * strip_tiles % Tile::row_tiles != 0) return 0;
    a.row_groups = a.strips * strip_tiles / Tile::row_tiles;
    a.warp_pairs = Tile::column_pairs;
    if (Tile::out_channels == 0) {
        const int least = divide_up(a.pairs, Tile::column_pairs);
        const int parts = std::max(least, std::min(a.pairs, wanted_warps / a.row_groups));
        a.warp_pairs = divide_up(a.pairs, parts);
    }
    return a.row_groups * divide_up(a.pairs, a.warp_pairs);
}

template <class Tile>
Plan plan_of(const InvertedResidualParams& params, int strips, int images, int64_t shared_bytes)
{
    Plan plan;
    TileArguments& a = plan.arguments;
    set_shape(params, a);
    set_tile<Tile>(params, strips, images, a);
    set_memory<Tile>(a);
    a.workers = split_projection<Tile>(a);
    const int warps = a.workers + (Tile::held ? a.units : 0);
    const bool fits = a.workers > 0 && warps <= Tile::most_warps && a.shared_bytes <= shared_bytes;
    plan.warps = fits ? warps : 0;
    plan.blocks = int64_t{a.tile_rows} * a.tile_columns * divide_up(params.batch, images);
    return plan;
}

// Whether three quarters of the multiprocessors have a block.
inline bool is_busy(const Plan& plan, const Gpu& gpu)
{
    return plan.warps > 0 && 4 * plan.blocks >= int64_t{3} * gpu.sm_count;
}

// Whether any plan could be: single strips of single images are the most tiles.
inline bool can_be_busy(const InvertedResidualParams& params, const Gpu& gpu)
{
    const int strip_height = is_narrow(params) ? 2 * patch_size : patch_size;
    const int64_t tiles = divide_up(params.out_height(), int64_t{strip_height}) *
                          divide_up(params.out_width(), int64_t{strip_patches * patch_size});
    return 4 * params.batch * tiles >= int64_t{3} * gpu.sm_count;
}

// Equal tiles that cover the image, as few as fit, but more where multiprocessors would be idle.
template <class Tile>
Plan best_plan(const InvertedResidualParams& params, const Gpu& gpu)
{
    Plan best;
    const bool narrow = is_narrow(params);
    const auto most_tiles = static_cast<int>(divide_up(params.out_height(), patch_size));
    for (int tiles = 1; tiles <= most_tiles; ++tiles)
        for (const int images : {2, 1}) {
            if (images == 2 && (!narrow || params.batch <= gpu.sm_count)) continue;
            const int strip_height = narrow && images == 1 ? 2 * patch_size : patch_size;
            const auto strips = static_cast<int>(divide_up(params.out_height(), int64_t{tiles} * strip_height));
            const Plan plan = plan_of<Tile>(params, round_up(strips, Tile::stack), images, gpu.shared_bytes);
            if (plan.warps == 0) continue;
            best = plan;
            if (is_busy(plan, gpu)) return best;
        }
    return best;
}

}  // namespace mnv2::cuda
