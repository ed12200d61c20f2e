// What a thread block of tile_block makes: its tile, the expanded pixels behind it, and its lanes' patches.
#pragma once

#include <cstdint>

#include "cuda/common/ptx.cuh"
#include "cuda/tile_block/config.h"

namespace mnv2::cuda {

template <class Tile>
__device__ __forceinline__ int depth_count(const TileArguments& p)
{
    return Tile::in_channels > 0 ? Tile::known_depths : p.depths;
}

template <class Tile>
__device__ __forceinline__ int pair_count(const TileArguments& p)
{
    return Tile::out_channels > 0 ? Tile::known_pairs : p.pairs;
}

template <class Tile>
__device__ __forceinline__ int in_channel_count(const TileArguments& p)
{
    return Tile::in_channels > 0 ? Tile::in_channels : p.in_channels;
}

template <class Tile>
__device__ __forceinline__ int out_channel_count(const TileArguments& p)
{
    return Tile::out_channels > 0 ? Tile::out_channels : p.out_channels;
}

// Where a thread is in its block, its warp and the fragments.
struct Lane {
    int warp, lane, group, quad;
};

// The tile of a thread block: its first output pixel, the first pixel of its expanded tile, and the part of that in the image.
struct Region {
    int64_t image;
    int out_y, out_x, expanded_y, expanded_x;
    int y, x, rows, columns, pixels;
};

template <class Tile>
__device__ __forceinline__ Region region_of(const TileArguments& p, int64_t tile)
{
    Region r;
    const int place = static_cast<int>(tile % (p.tile_rows * p.tile_columns));
    r.image = tile / (p.tile_rows * p.tile_columns) * p.images;
    r.out_y = place / p.tile_columns * p.strips * p.strip_height;
    r.out_x = place % p.tile_columns * strip_patches * patch_size;
    r.expanded_y = r.out_y * Tile::stride - p.padding_top;
    r.expanded_x = r.out_x * Tile::stride - p.padding_left;
    r.y = max(r.expanded_y, 0);
    r.x = max(r.expanded_x, 0);
    r.rows = min(r.expanded_y + p.rows, p.height) - r.y;
    r.columns = min(r.expanded_x + p.columns, p.width) - r.x;
    r.pixels = static_cast<int>(min(static_cast<int64_t>(p.images), p.batch - r.image)) * r.rows * r.columns;
    return r;
}

struct Pixel {
    int image, y, x;
};

__device__ __forceinline__ Pixel input_pixel(const Region& r, int i)
{
    const int row = i / r.columns;
    return {row / r.rows, r.y + row % r.rows, r.x + i % r.columns};
}

// An expanded pixel's place. With stride 2 a row's even columns precede the odd ones, so that neighbouring
// patches read neighbouring memory, as with stride 1.
template <class Tile>
__device__ __forceinline__ int expanded_place(const TileArguments& p, int image, int y, int x)
{
    const int column = Tile::stride == 1 ? x : x / 2 + x % 2 * p.odd_at;
    return (image * p.rows + y) * p.pitch + column;
}

template <class Tile>
__device__ __forceinline__ uint16_t place_of(const TileArguments& p, const Region& r, int i)
{
    if (i >= r.pixels) return outside;
    const Pixel pixel = input_pixel(r, i);
    return static_cast<uint16_t>(expanded_place<Tile>(p, pixel.image, pixel.y - r.expanded_y, pixel.x - r.expanded_x));
}

template <class Tile>
__device__ __forceinline__ const typename Tile::T* input_address(const TileArguments& p, const Region& r, const Pixel& pixel)
{
    const int64_t place = ((r.image + pixel.image) * p.height + pixel.y) * p.width + pixel.x;
    return static_cast<const typename Tile::T*>(p.input) + place * in_channel_count<Tile>(p);
}

// A lane's patch: where its group's pixels are in the tile.
template <class Tile>
__device__ __forceinline__ Pixel patch_of(const TileArguments& p, const Lane& lane, int strip)
{
    const int part = lane.group / p.patches_across;
    const int row_part = p.images == 1 ? part : 0;
    return {part - row_part, (strip + row_part * p.strips) * patch_size, lane.group % p.patches_across * patch_size};
}

// Where the window of a lane's patch starts in an expanded tile, in bytes. Patches beyond the last column read the last
// patch's.
template <class Tile>
__device__ __forceinline__ int window_at(const TileArguments& p, const Lane& lane, int strip)
{
    const Pixel patch = patch_of<Tile>(p, lane, strip);
    const int x = min(patch.x, (p.patch_columns - 1) * patch_size);
    const int place = expanded_place<Tile>(p, patch.image, patch.y * Tile::stride, x * Tile::stride);
    return (place * expanded_row + lane.quad * 4) * static_cast<int>(sizeof(typename Tile::T));
}

}  // namespace mnv2::cuda
