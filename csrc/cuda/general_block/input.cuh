// The input pixels of a tile of general_block.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda/common/quads.cuh"
#include "cuda/general_block/tile.cuh"

namespace mnv2::cuda {

// Notes which pixels of the tensor the tile takes and where they lie in its halo.
template <class Block>
__device__ void place_input(const GeneralThread<Block>& t)
{
    const GeneralBlockArguments& p = t.p;
    const GeneralTile& tile = t.tile;
    const int width = tile.right - tile.left, per_image = (tile.bottom - tile.top) * width;
    const int in_y = tile.out_y * p.stride - p.padding_top, in_x = tile.out_x * p.stride - p.padding_left;
    for (int i = threadIdx.x; i < tile.pixels; i += Block::threads) {
        const int image = i / per_image, y = tile.top + i % per_image / width, x = tile.left + i % per_image % width;
        t.sources()[i] = ((tile.first_image + image) * p.height + y) * p.width + x;
        t.places()[i] = (image * p.halo_height + y - in_y) * p.halo_width + x - in_x;
    }
}

// Zeroes the halo outside the image.
template <class Block>
__device__ void zero_halo(const GeneralThread<Block>& t)
{
    const GeneralBlockArguments& p = t.p;
    if (t.tile.pixels == t.tile.images * p.halo_height * p.halo_width) return;
    float4* const zeros = reinterpret_cast<float4*>(t.expanded(0));
    for (int i = threadIdx.x; i < p.planes * p.layout.expanded_plane / quad_channels; i += Block::threads)
        ptx::store_shared(zeros + i, float4{});
}

// Fetches `depth` input channels from `first` on, for all pixels of the tile: pixel i goes to row i, or to row place[i].
template <class Block>
__device__ void fetch_input(const GeneralThread<Block>& t, float* to, int pixel_stride, int first, int depth, const int* place)
{
    const GeneralBlockArguments& p = t.p;
    const int quads = depth / quad_channels;
    with_type(p.type, [&]<class T>() {
        for (int i = threadIdx.x; i < t.tile.pixels * quads; i += Block::threads) {
            const int pixel = i / quads, quad = i % quads * quad_channels, channel = first + quad;
            float* const at = to + (place ? place[pixel] : pixel) * pixel_stride + quad;
            const T* const from = static_cast<const T*>(p.input) + t.sources()[pixel] * p.in_channels;
            if (std::is_same_v<T, float> && p.in_channels % quad_channels == 0 && channel < p.in_channels)
                ptx::cp_async16(at, from + channel);
            else
                ptx::store_shared(at, load_channels(from, channel, p.in_channels));
        }
    });
}

// Where all input channels are one slab, they stay in shared memory.
template <class Block>
__device__ void fetch_resident_input(const GeneralThread<Block>& t)
{
    if (t.p.has_expand && t.p.slabs == 1) fetch_input(t, t.input_slab(0), t.p.layout.input_stride, 0, t.p.depth, nullptr);
}

}  // namespace mnv2::cuda
