// The cut of a layer with the least estimate.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "cuda/general_block/cost.h"
#include "cuda/general_block/cut.h"

namespace mnv2::cuda {

// The sizes up to most that cut a dimension into equal pieces, the largest first.
template <class Visit>
void visit_pieces(int64_t size, int64_t most, const Visit& visit)
{
    for (int64_t piece = std::min(size, most); piece > 0; --piece) {
        piece = divide_up(size, divide_up(size, piece));
        visit(piece);
    }
}

struct Plan {
    Cut cut;
    GeneralBlockLayout layout;
    double cycles = std::numeric_limits<double>::infinity();
};

// Whether it fits.
template <class Block>
bool consider(const InvertedResidualParams& params, const Gpu& gpu, const Cut& cut, Plan& best)
{
    const GeneralBlockLayout layout = layout_of<Block>(params, cut);
    const int64_t bytes = int64_t{layout.floats} * static_cast<int64_t>(sizeof(float));
    if (bytes > gpu.shared_bytes) return false;
    const double cycles = cycles_of<Block>(params, cut, bytes, gpu);
    if (cycles < best.cycles) best = {cut, layout, cycles};
    return true;
}

// Calls visit(height, width) for the tiles of an image.
template <class Visit>
void visit_tiles(const InvertedResidualParams& params, int64_t most_pixels, const Visit& visit)
{
    visit_pieces(params.out_width(), most_pixels, [&](int64_t width) {
        visit_pieces(params.out_height(), most_pixels / width, [&](int64_t height) { visit(height, width); });
    });
}

constexpr int64_t most_columns = 160;

inline int64_t widest_slice(const InvertedResidualParams& params)
{
    const int64_t slices = divide_up(params.out_channels, most_columns);
    return round_up(divide_up(params.out_channels, slices), chunk_channels);
}

// The cut with the least estimate. Small images are taken several at a time, and small tiles only where these are few.
template <class Block>
Plan plan_whole(const InvertedResidualParams& params, const Gpu& gpu)
{
    constexpr int64_t most_small_tiles = 4, small_part = 4;  // of a multiprocessor, and of the pixels that a tile can have
    Plan best{};
    const int64_t height = params.out_height(), width = params.out_width(), slice = widest_slice(params);
    const int64_t least_pixels = params.batch * height * width / (most_small_tiles * gpu.sm_count);
    visit_tiles(params, Block::tile_pixels, [&](int64_t tile_height, int64_t tile_width) {
        if (tile_height * tile_width < std::min(least_pixels, Block::tile_pixels / small_part)) return;
        consider<Block>(params, gpu, {1, tile_height, tile_width, slice, 1}, best);
    });
    if (height * width <= Block::tile_pixels / 2)
        for (int64_t images = std::min(params.batch, Block::tile_pixels / (height * width)); images > 1; --images)
            consider<Block>(params, gpu, {images, height, width, slice, 1}, best);
    return best;
}

// Only where tiles are few: elsewhere shared memory has no time for the sums.
template <class Block>
Plan plan_spread(const InvertedResidualParams& params, const Gpu& gpu)
{
    constexpr int64_t most_pixels = 2 * Block::warp_pixels, most_planes = 8, most_tiles = 2;
    Plan best{};
    const int64_t pixels = params.batch * params.out_height() * params.out_width();
    if (pixels > most_tiles * most_pixels * gpu.sm_count) return best;
    const int64_t least_pixels = pixels / (most_tiles * gpu.sm_count);
    visit_tiles(params, most_pixels, [&](int64_t tile_height, int64_t tile_width) {
        if (tile_height * tile_width < least_pixels) return;
        for (int64_t slice = widest_slice(params); slice >= chunk_channels; slice = slice / 2 / chunk_channels * chunk_channels)
            for (int64_t planes = most_planes; planes > 0; planes /= 2)
                if (consider<Block>(params, gpu, {1, tile_height, tile_width, slice, planes}, best)) break;
    });
    return best;
}

template <class Block>
Plan plan_of(const InvertedResidualParams& params, const Gpu& gpu)
{
    if constexpr (Block::spread)
        return plan_spread<Block>(params, gpu);
    else
        return plan_whole<Block>(params, gpu);
}

template <class Block>
bool has_columns(const InvertedResidualParams& params)
{
    // The least that hold a slice: blocks are listed in their order.
    const int64_t channels = widest_slice(params);
    constexpr int64_t less = Block::columns <= 96 ? Block::columns - 32 : 96;
    return Block::spread || (channels <= Block::columns && channels > less);
}

}  // namespace mnv2::cuda
