// The input pixels of a tile as A fragments, in registers or in shared memory.
#pragma once

#include <cstdint>

#include "cuda/common/ptx.cuh"
#include "cuda/tile_block/region.cuh"

namespace mnv2::cuda {

// Input pixels as A fragments: row tile `tile`, 16 depths from k * 16 on, 0 for what does not exist.
template <class Tile>
class InputTile {
public:
    __device__ __forceinline__ InputTile(const TileArguments& p, const Region& r, const Lane& lane, int tile)
        : channels_(in_channel_count<Tile>(p)), first_(lane.quad * 4)
    {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int i = tile * tile_pixels + half * 8 + lane.group;
            row_[half] = i < r.pixels ? input_address<Tile>(p, r, input_pixel(r, i)) + first_ : nullptr;
        }
    }

    __device__ __forceinline__ void load(int k, uint32_t* a) const
    {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const bool exists = row_[half] != nullptr && k * 16 + first_ < channels_;
            a[half] = exists ? ptx::load_global32(row_[half] + k * 16) : 0u;
            a[half + 2] = exists ? ptx::load_global32(row_[half] + k * 16 + 2) : 0u;
        }
    }

private:
    const typename Tile::T* row_[2];
    int channels_, first_;
};

// The input pixels that a warp expands, in its registers.
template <class Tile, bool held = Tile::held>
class InputUnits {
public:
    __device__ __forceinline__ InputUnits(const TileArguments& p, const Region& r, const Lane& lane, uint8_t*)
    {
#pragma unroll
        for (int m = 0; m < Tile::unit_tiles; ++m) {
            const int tile = (lane.warp - p.workers) * Tile::unit_tiles + m;
            const InputTile<Tile> pixels(p, r, lane, tile);
#pragma unroll
            for (int k = 0; k < Tile::known_depths; ++k) pixels.load(k, fragments_[m][k]);
#pragma unroll
            for (int half = 0; half < 2; ++half)
                places_[m * 2 + half] = place_of<Tile>(p, r, tile * tile_pixels + half * 8 + lane.group);
        }
    }

    template <class Visit>
    __device__ __forceinline__ void for_each(const TileArguments&, const Lane&, const Visit& visit) const
    {
        visit(0);
    }

    __device__ __forceinline__ void fragment(const TileArguments&, const Lane&, int, int m, int k, uint32_t (&a)[4]) const
    {
#pragma unroll
        for (int i = 0; i < 4; ++i) a[i] = fragments_[m][k][i];
    }

    __device__ __forceinline__ uint16_t place(const Lane&, int, int m, int half) const { return places_[m * 2 + half]; }

private:
    uint32_t fragments_[Tile::unit_tiles][Tile::known_depths][4];
    uint16_t places_[Tile::unit_tiles * 2];
};

// The input pixels in shared memory. The last warp takes the first unit, since depthwise work starts at the first warp.
template <class Tile>
class InputUnits<Tile, false> {
public:
    __device__ __forceinline__ InputUnits(const TileArguments& p, uint8_t* shared)
        : fragments_(shared + p.input_at), places_(shared + p.place_at)
    {
    }

    __device__ __forceinline__ InputUnits(const TileArguments& p, const Region& r, const Lane& lane, uint8_t* shared)
        : InputUnits(p, shared)
    {
        for_each(p, lane, [&](int unit) {
            for (int m = 0; m < Tile::unit_tiles; ++m) {
                const int tile = unit * Tile::unit_tiles + m;
                const InputTile<Tile> pixels(p, r, lane, tile);
#pragma unroll 4
                for (int k = 0; k < depth_count<Tile>(p); ++k) {
                    uint32_t a[4];
                    pixels.load(k, a);
                    store_fragment(p, lane, tile, k, a);
                }
                store_places(p, r, lane, tile);
            }
        });
    }

    __device__ __forceinline__ void store_fragment(const TileArguments& p, const Lane& lane, int tile, int k,
                                                   const uint32_t (&a)[4]) const
    {
        ptx::store_shared(address(p, lane, tile, k), uint4{a[0], a[1], a[2], a[3]});
    }

    __device__ __forceinline__ void store_places(const TileArguments& p, const Region& r, const Lane& lane, int tile) const
    {
        if (lane.lane >= tile_pixels) return;
        const int i = tile * tile_pixels + lane.lane;
        ptx::store_shared(places_ + i * sizeof(uint16_t), place_of<Tile>(p, r, i));
    }

    template <class Visit>
    __device__ __forceinline__ void for_each(const TileArguments& p, const Lane& lane, const Visit& visit) const
    {
        const int warps = blockDim.x / 32;
#pragma unroll 1
        for (int unit = warps - 1 - lane.warp; unit < p.units; unit += warps) visit(unit);
    }

    __device__ __forceinline__ void fragment(const TileArguments& p, const Lane& lane, int unit, int m, int k,
                                             uint32_t (&a)[4]) const
    {
        const uint4 words = ptx::load_shared<uint4>(address(p, lane, unit * Tile::unit_tiles + m, k));
        a[0] = words.x, a[1] = words.y, a[2] = words.z, a[3] = words.w;
    }

    __device__ __forceinline__ uint16_t place(const Lane& lane, int unit, int m, int half) const
    {
        const int i = (unit * Tile::unit_tiles + m) * tile_pixels + half * 8 + lane.group;
        return ptx::load_shared<uint16_t>(places_ + i * sizeof(uint16_t));
    }

private:
    __device__ __forceinline__ uint8_t* address(const TileArguments& p, const Lane& lane, int tile, int k) const
    {
        return fragments_ + (tile * depth_count<Tile>(p) + k) * fragment_bytes + lane.lane * 16;
    }

    uint8_t* fragments_;
    uint8_t* places_;
};

}  // namespace mnv2::cuda
