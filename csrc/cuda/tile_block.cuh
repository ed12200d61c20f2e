// The inverted residual whose expanded tensor is exchanged through shared memory, 32 channels at a time: for blocks with too
// many channels for register_block.cuh, and for all widths.
//
// A thread block makes a tile of output pixels: strips of eight patches of 2x2 pixels, a patch for each row group of an mma's
// fragments. The strip's patches lie side by side (16 columns); where the image has at most eight columns, four of them do,
// and the other four are those of a second image or of the tile's lower half.
//
// The steps of a chunk of expanded channels overlap with those of its neighbours, so that one barrier a step is enough and
// warps find work for tensor cores, shared memory and arithmetic units between two barriers. In step s the block
//   - expands chunk s: mma over the tile's input pixels, halo included, to one of two hidden tiles;
//   - convolves chunk s - 1 depthwise from the other hidden tile: a lane makes a patch's outputs for four channels in the very
//     registers that an mma takes them from as A fragments;
//   - projects: from those registers (direct), or from fragments that another warp left in shared memory (then chunk s - 2),
//     so that warps can share a tile's output channels without convolving more than once.
// Only input pixels inside the image are expanded; the rest of the hidden tiles is set to zero once.
//
// Input pixels become A fragments once, as they come from memory. In shared memory, lane by lane, where every warp does all of
// the above; in registers (held) where some warps only expand and the others do the rest, so that neither needs the other's
// registers.
//
// Packed weights: the projection's bias, then for each chunk the expand layer's B fragments and bias, the depthwise layer's
// taps and bias lane by lane, and the projection's B fragments. All fragments hold 16 depths (a lane's four are neighbours)
// and two tiles of eight columns, 16 bytes a lane. Tiles, forms and images all take the same packed weights.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "cuda/depthwise.cuh"
#include "cuda/ptx.cuh"
#include "cuda/sizes.h"

// MNV2_PLANTED_FAULT plants an error that tests must find: 1 no barriers between steps, 2 a halo one column short, 3 no wait
// for the weights, 4 the image's border not zeroed, 5 every other barrier only, 6 the next weights fetched before the
// barrier.
#ifndef MNV2_PLANTED_FAULT
#define MNV2_PLANTED_FAULT 0
#endif

namespace mnv2::cuda {

constexpr int chunk_channels = 32;
constexpr int chunk_depths = chunk_channels / 16;  // of the projection, in mma's
constexpr int chunk_pairs = chunk_channels / 16;   // of the expand layer's column tiles
constexpr int patch_size = 2;
constexpr int strip_patches = 8;
constexpr int strip_tiles = patch_size * patch_size / 2;  // of 16 rows: a group has two rows in each
constexpr int tile_pixels = 16;                           // of an mma's rows
constexpr int fragment_bytes = 512;                       // 16 bytes a lane: an A fragment, or B of two column tiles
// A hidden pixel's channels and 16 bytes: an odd number of 16 bytes, so that eight neighbours' 16 bytes, which the expansion
// stores, lie in different banks, and so do four patches' 32 bytes, which the convolution loads.
constexpr int hidden_row = chunk_channels + 8;
constexpr int lane_constants = 20;  // words: nine taps and a bias for two pairs of channels
constexpr int depthwise_bytes = chunk_depths * 4 * lane_constants * 4;
constexpr uint16_t outside = 0xffff;

constexpr int expand_bytes(int depths)
{
    return depths * chunk_pairs * fragment_bytes + chunk_channels * 4;
}

constexpr int project_bytes(int pairs)
{
    return chunk_depths * pairs * fragment_bytes;
}

constexpr int chunk_bytes(int depths, int pairs)
{
    return expand_bytes(depths) + depthwise_bytes + project_bytes(pairs);
}

// in and out 0: at run time. A warp convolves stacked strips at a time, whose patches touch, so that taps and common rows are
// read once; it projects tiles row tiles and at most pairs pairs of column tiles, and expands pixels row tiles of input pixels
// at a time.
template <class Element, int in, int out, int block_stride, bool is_direct, bool is_held, int stacked, int tiles, int pairs,
          int pixels, int warps>
struct TileBlock {
    using T = Element;
    static constexpr int in_channels = in, out_channels = out, stride = block_stride;
    static constexpr bool direct = is_direct, held = is_held;
    static constexpr int stack = stacked, stack_tiles = stacked * strip_tiles;
    static constexpr int row_tiles = tiles, column_pairs = pairs, unit_tiles = pixels, most_warps = warps;
    static constexpr int project_lag = direct ? 1 : 2;  // steps from a chunk's expansion
    static constexpr int known_depths = divide_up(in, 16), known_pairs = divide_up(out, 16);
    static constexpr int unrolled_depths = in > 0 ? 16 : 1;  // of the expand layer
    static constexpr int weight_buffers = 2;                 // of a step's weights; with one, the next step's come after it

    static_assert((in == 0) == (out == 0) && in % 8 == 0 && out % 8 == 0 && known_pairs % column_pairs == 0);
    static_assert(!direct || row_tiles == stack_tiles);
    static_assert(!held || in > 0);
};

struct TileArguments {
    const void* input;
    void* output;
    const uint8_t* packed;
    int64_t batch;
    int in_channels, expanded_channels, out_channels, depths, pairs, chunks;
    int height, width, out_height, out_width, padding_top, padding_left;

    int tile_rows, tile_columns;        // of tiles, over an image
    int strips, images, strip_height;   // of a tile
    int patches_across, patch_columns;  // of an image in a strip: as many as it has lanes for, and those that it needs
    int rows, columns, pitch, odd_at;   // of hidden pixels, an image; odd_at is where a row's odd columns start
    int units;                          // of input pixels
    int workers;                        // warps that convolve and project
    int row_groups, warp_pairs;         // of the projection: warps that share the row tiles, a warp's column pairs
    int hidden_bytes, exchange_at, exchange_bytes, input_at, place_at, weights_at, shared_bytes;

    float high;  // of the activation's clamp; the low end is 0
    bool residual;
};

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

// What a thread is to its warp and fragments.
struct Lane {
    int warp, lane, group, quad;
};

// The tile of a thread block: its first output pixel, its hidden tile's first pixel, and what of that lies in the image.
struct Region {
    int64_t image;
    int out_y, out_x, hidden_y, hidden_x;
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
    r.hidden_y = r.out_y * Tile::stride - p.padding_top;
    r.hidden_x = r.out_x * Tile::stride - p.padding_left;
    r.y = max(r.hidden_y, 0);
    r.x = max(r.hidden_x, 0);
    r.rows = min(r.hidden_y + p.rows, p.height) - r.y;
    r.columns = min(r.hidden_x + p.columns - (MNV2_PLANTED_FAULT == 2), p.width) - r.x;
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

// A hidden pixel's place. With stride 2 a row's even columns precede the odd ones, so that patches read what neighbours
// neighbours, as with stride 1.
template <class Tile>
__device__ __forceinline__ int hidden_place(const TileArguments& p, int image, int y, int x)
{
    const int column = Tile::stride == 1 ? x : x / 2 + x % 2 * p.odd_at;
    return (image * p.rows + y) * p.pitch + column;
}

template <class Tile>
__device__ __forceinline__ uint16_t place_of(const TileArguments& p, const Region& r, int i)
{
    if (i >= r.pixels) return outside;
    const Pixel pixel = input_pixel(r, i);
    return static_cast<uint16_t>(hidden_place<Tile>(p, pixel.image, pixel.y - r.hidden_y, pixel.x - r.hidden_x));
}

template <class Tile>
__device__ __forceinline__ const typename Tile::T* input_address(const TileArguments& p, const Region& r, const Pixel& pixel)
{
    const int64_t place = ((r.image + pixel.image) * p.height + pixel.y) * p.width + pixel.x;
    return static_cast<const typename Tile::T*>(p.input) + place * in_channel_count<Tile>(p);
}

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

// The same in shared memory; a warp takes units from the last warp down, since depthwise work starts at the first.
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

__device__ __forceinline__ void copy_to_shared(uint8_t* to, const uint8_t* from, int bytes)
{
    for (int at = threadIdx.x * 16; at < bytes; at += blockDim.x * 16) ptx::cp_async16(to + at, from + at);
}

// The chunks' packed weights, one after the other.
__device__ __forceinline__ const uint8_t* packed_chunks(const TileArguments& p, int pairs)
{
    return p.packed + pairs * 16 * sizeof(float);
}

// A step's weights, in one of the buffers.
template <class Tile>
class StepWeights {
public:
    __device__ __forceinline__ StepWeights(const TileArguments& p, uint8_t* shared, int step)
        : depths_(depth_count<Tile>(p)),
          pairs_(pair_count<Tile>(p)),
          buffer_(shared + p.weights_at + step % Tile::weight_buffers * chunk_bytes(depths_, pairs_))
    {
    }

    // Fetches what the step asks for of three chunks' weights.
    __device__ __forceinline__ void fetch(const TileArguments& p, int step) const
    {
        const uint8_t* const chunks = packed_chunks(p, pairs_);
        const auto copy = [&](int chunk, int at, int bytes) {
            if (chunk >= 0 && chunk < p.chunks)
                copy_to_shared(buffer_ + at, chunks + static_cast<int64_t>(chunk) * chunk_bytes(depths_, pairs_) + at, bytes);
        };
        copy(step, 0, expand_bytes(depths_));
        copy(step - 1, expand_bytes(depths_), depthwise_bytes);
        copy(step - Tile::project_lag, expand_bytes(depths_) + depthwise_bytes, project_bytes(pairs_));
        ptx::cp_async_commit();
    }

    __device__ __forceinline__ const uint8_t* expand() const { return buffer_; }
    __device__ __forceinline__ const uint8_t* expand_bias() const { return buffer_ + depths_ * chunk_pairs * fragment_bytes; }
    __device__ __forceinline__ const uint8_t* depthwise() const { return buffer_ + expand_bytes(depths_); }
    __device__ __forceinline__ const uint8_t* project() const { return depthwise() + depthwise_bytes; }

private:
    int depths_, pairs_;
    uint8_t* buffer_;
};

// The first `tiles` hidden tiles.
__device__ __forceinline__ void zero_hidden(const TileArguments& p, uint8_t* shared, int tiles)
{
    if (MNV2_PLANTED_FAULT == 4) return;
    for (int at = threadIdx.x * 16; at < tiles * p.hidden_bytes; at += blockDim.x * 16)
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

// Of a unit's input pixels: all column tiles of a chunk, but where registers hold the pixels one pair at a time.
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
                                               const ExpandSums<Tile>& sum, uint8_t* hidden)
{
    using T = typename Tile::T;
#pragma unroll
    for (int m = 0; m < Tile::unit_tiles; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const uint16_t place = input.place(lane, unit, m, half);
            if (place == outside) continue;
            uint8_t* const row = hidden + (place * hidden_row + lane.quad * 2) * sizeof(T);
#pragma unroll
            for (int n = 0; n < 2 * expand_pairs<Tile>; ++n)
                ptx::store_shared(row + n * 8 * sizeof(T),
                                  ptx::min2<T>(ptx::pack2_relu<T>(sum[m][n][half * 2], sum[m][n][half * 2 + 1]), high));
        }
}

// Of the chunk's channels the first `live` exist. Weights give the chunk's fragments and bias.
template <class Tile, class Weights>
__device__ __forceinline__ void expand_unit(const TileArguments& p, const Lane& lane, const InputUnits<Tile>& input, int unit,
                                            const Weights& weights, int live, uint32_t high, uint8_t* hidden)
{
    using T = typename Tile::T;
    constexpr int pairs = expand_pairs<Tile>;
    [[maybe_unused]] constexpr int unrolled = Tile::unrolled_depths;  // for nvcc
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
        store_expanded<Tile>(lane, input, unit, high, sum, hidden + first * 16 * sizeof(T));
    }
}

// A lane's patch: where its group's pixels are in the tile.
template <class Tile>
__device__ __forceinline__ Pixel patch_of(const TileArguments& p, const Lane& lane, int strip)
{
    const int part = lane.group / p.patches_across;
    const int row_part = p.images == 1 ? part : 0;
    return {part - row_part, (strip + row_part * p.strips) * patch_size, lane.group % p.patches_across * patch_size};
}

// Where its window starts in a hidden tile, in bytes. Patches that the image has no columns for read those of the last one.
template <class Tile>
__device__ __forceinline__ int window_at(const TileArguments& p, const Lane& lane, int strip)
{
    const Pixel patch = patch_of<Tile>(p, lane, strip);
    const int x = min(patch.x, (p.patch_columns - 1) * patch_size);
    const int place = hidden_place<Tile>(p, patch.image, patch.y * Tile::stride, x * Tile::stride);
    return (place * hidden_row + lane.quad * 4) * static_cast<int>(sizeof(typename Tile::T));
}

// The depthwise outputs of a lane's stacked patches for 16 channels, as the A fragments of their row tiles.
template <class Tile>
__device__ __forceinline__ void convolve_patches(const TileArguments& p, const Lane& lane, const uint8_t* window_start,
                                                 const uint8_t* constants, int k, uint32_t high,
                                                 uint32_t (&a)[Tile::stack_tiles][4])
{
    using T = typename Tile::T;
    constexpr int height = (Tile::stack * patch_size - 1) * Tile::stride + kernel_size;
    constexpr int width = (patch_size - 1) * Tile::stride + kernel_size;
    uint32_t constant[lane_constants];
#pragma unroll
    for (int i = 0; i < lane_constants; i += 4) {
        const uint4 words = ptx::load_shared<uint4>(constants + ((k * 4 + lane.quad) * lane_constants + i) * 4);
        constant[i] = words.x, constant[i + 1] = words.y, constant[i + 2] = words.z, constant[i + 3] = words.w;
    }
    uint32_t taps[2][kernel_taps];
#pragma unroll
    for (int i = 0; i < kernel_taps; ++i)
#pragma unroll
        for (int pair = 0; pair < 2; ++pair) taps[pair][i] = constant[i * 2 + pair];
    uint32_t hidden[2][height][width];
#pragma unroll
    for (int y = 0; y < height; ++y)
#pragma unroll
        for (int x = 0; x < width; ++x) {
            const int place = hidden_place<Tile>(p, 0, y, x);
            const uint2 words = ptx::load_shared<uint2>(window_start + (place * hidden_row + k * 16) * sizeof(T));
            hidden[0][y][x] = words.x;
            hidden[1][y][x] = words.y;
        }
#pragma unroll
    for (int y = 0; y < Tile::stack_tiles; ++y)
#pragma unroll
        for (int pair = 0; pair < 2; ++pair)
#pragma unroll
            for (int x = 0; x < patch_size; ++x) {
                uint32_t window[kernel_taps];
#pragma unroll
                for (int i = 0; i < kernel_taps; ++i)
                    window[i] = hidden[pair][y * Tile::stride + i / 3][x * Tile::stride + i % 3];
                a[y][pair * 2 + x] = depthwise<T>(window, taps[pair], constant[kernel_taps * 2 + pair], high);
            }
}

template <class Tile>
using ProjectSums = float[Tile::row_tiles][2 * Tile::column_pairs][4];

// The part of a tile that a warp projects: row tiles from `row_tile` on, column pairs from `pair` on, `pairs` of them.
struct Part {
    int row_tile, pair, pairs;
};

template <class Tile>
__device__ __forceinline__ Part part_of(const TileArguments& p, const Lane& lane)
{
    if constexpr (Tile::direct) return {lane.warp * Tile::row_tiles, 0, pair_count<Tile>(p)};
    const int pair = lane.warp / p.row_groups * p.warp_pairs;
    return {lane.warp % p.row_groups * Tile::row_tiles, pair, min(p.warp_pairs, pair_count<Tile>(p) - pair)};
}

template <class Tile>
__device__ __forceinline__ void project(const TileArguments& p, const Lane& lane, const Part& part, const uint8_t* weights,
                                        int k, const uint32_t (&a)[Tile::row_tiles][4], ProjectSums<Tile>& sum)
{
    const uint8_t* const fragments = weights + (k * pair_count<Tile>(p) + part.pair) * fragment_bytes + lane.lane * 16;
#pragma unroll
    for (int n = 0; n < Tile::column_pairs; ++n) {
        if (Tile::out_channels == 0 && n >= part.pairs) break;
        const uint4 b = ptx::load_shared<uint4>(fragments + n * fragment_bytes);
#pragma unroll
        for (int m = 0; m < Tile::row_tiles; ++m) mma_pair<typename Tile::T>(sum[m][2 * n], sum[m][2 * n + 1], a[m], b);
    }
}

// Where the exchanged A fragments of a chunk are.
__device__ __forceinline__ uint8_t* exchange_of(const TileArguments& p, uint8_t* shared, int chunk)
{
    return shared + p.exchange_at + chunk % 2 * p.exchange_bytes;
}

__device__ __forceinline__ int exchange_place(const Lane& lane, int tile, int k)
{
    return (tile * chunk_depths + k) * fragment_bytes + lane.lane * 16;
}

// Depthwise outputs of the whole tile to shared memory: a unit is a stack of strips and 16 channels.
template <class Tile>
__device__ __forceinline__ void convolve_to_exchange(const TileArguments& p, const Lane& lane, const uint8_t* hidden,
                                                     const uint8_t* constants, uint32_t high, uint8_t* exchange)
{
#pragma unroll 1
    for (int unit = lane.warp; unit < p.strips / Tile::stack * chunk_depths; unit += p.workers) {
        const int strip = unit / chunk_depths * Tile::stack, k = unit % chunk_depths;
        uint32_t a[Tile::stack_tiles][4];
        convolve_patches<Tile>(p, lane, hidden + window_at<Tile>(p, lane, strip), constants, k, high, a);
#pragma unroll
        for (int m = 0; m < Tile::stack_tiles; ++m)
            ptx::store_shared(exchange + exchange_place(lane, strip * strip_tiles + m, k),
                              uint4{a[m][0], a[m][1], a[m][2], a[m][3]});
    }
}

template <class Tile>
__device__ __forceinline__ void project_exchanged(const TileArguments& p, const Lane& lane, const Part& part,
                                                  const uint8_t* exchange, const uint8_t* weights, ProjectSums<Tile>& sum)
{
    __syncwarp();
#pragma unroll
    for (int k = 0; k < chunk_depths; ++k) {
        uint32_t a[Tile::row_tiles][4];
#pragma unroll
        for (int m = 0; m < Tile::row_tiles; ++m) {
            const uint4 words = ptx::load_shared<uint4>(exchange + exchange_place(lane, part.row_tile + m, k));
            a[m][0] = words.x, a[m][1] = words.y, a[m][2] = words.z, a[m][3] = words.w;
        }
        project<Tile>(p, lane, part, weights, k, a, sum);
    }
}

template <class Tile>
__device__ __forceinline__ void convolve_and_project(const TileArguments& p, const Lane& lane, const Part& part,
                                                     const uint8_t* window_start, const StepWeights<Tile>& weights,
                                                     uint32_t high, ProjectSums<Tile>& sum)
{
#pragma unroll
    for (int k = 0; k < chunk_depths; ++k) {
        uint32_t a[Tile::stack_tiles][4];
        convolve_patches<Tile>(p, lane, window_start, weights.depthwise(), k, high, a);
        __syncwarp();
        project<Tile>(p, lane, part, weights.project(), k, a, sum);
    }
}

// Bias and shortcut in float, then one rounding; a lane stores four neighbouring channels.
template <class Tile>
__device__ __forceinline__ void store_part(const TileArguments& p, const Region& r, const Lane& lane, const Part& part,
                                           const ProjectSums<Tile>& sum)
{
    using T = typename Tile::T;
    const int channels = out_channel_count<Tile>(p);
#pragma unroll
    for (int m = 0; m < Tile::row_tiles; ++m) {
        const int tile = part.row_tile + m;
        const Pixel patch = patch_of<Tile>(p, lane, tile / strip_tiles);
        const int y = r.out_y + patch.y + tile % strip_tiles;
        const int64_t image = r.image + patch.image;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int x = r.out_x + patch.x + half;
            if (image >= p.batch || y >= p.out_height || x >= p.out_width) continue;
            const int64_t pixel = ((image * p.out_height + y) * p.out_width + x) * channels;
#pragma unroll
            for (int n = 0; n < Tile::column_pairs; ++n) {
                const int channel = (part.pair + n) * 16 + lane.quad * 4;
                if (n >= part.pairs || channel >= channels) break;
                const float4 bias = ptx::load_global<float4>(p.packed + channel * sizeof(float));
                const float* const even = sum[m][2 * n] + half * 2;
                const float* const odd = sum[m][2 * n + 1] + half * 2;
                float2 low{even[0] + bias.x, even[1] + bias.y}, high{odd[0] + bias.z, odd[1] + bias.w};
                if (Tile::stride == 1 && p.residual) {
                    const uint2 shortcut = ptx::load_global<uint2>(static_cast<const T*>(p.input) + pixel + channel);
                    const float2 x_low = ptx::unpack2<T>(shortcut.x), x_high = ptx::unpack2<T>(shortcut.y);
                    low = {low.x + x_low.x, low.y + x_low.y};
                    high = {high.x + x_high.x, high.y + x_high.y};
                }
                ptx::store_global(static_cast<T*>(p.output) + pixel + channel,
                                  uint2{ptx::pack2<T>(low.x, low.y), ptx::pack2<T>(high.x, high.y)});
            }
        }
    }
}

// Calls body(step, weights) for every step, with its weights at hand, everything of the step before done, and, where there is
// a buffer for them, the next step's weights on their way.
template <class Tile, class Body>
__device__ __forceinline__ void for_each_step(const TileArguments& p, uint8_t* shared, const Body& body)
{
    const int steps = p.chunks + Tile::project_lag;
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
        const StepWeights<Tile> weights(p, shared, step), next(p, shared, step + 1);
        if (MNV2_PLANTED_FAULT != 3) ptx::cp_async_wait<0>();
        if (MNV2_PLANTED_FAULT == 6 && step + 1 < steps) next.fetch(p, step + 1);
        if (step == 0 || (MNV2_PLANTED_FAULT != 1 && (MNV2_PLANTED_FAULT != 5 || step % 2 == 0))) ptx::block_barrier();
        if (Tile::weight_buffers > 1 && MNV2_PLANTED_FAULT != 6 && step + 1 < steps) next.fetch(p, step + 1);
        body(step, weights);
        if (Tile::weight_buffers == 1 && step + 1 < steps) {
            ptx::block_barrier();
            next.fetch(p, step + 1);
        }
    }
}

template <class Tile>
__device__ __forceinline__ void expand_step(const TileArguments& p, const Lane& lane, const InputUnits<Tile>& input, int step,
                                            const StepWeights<Tile>& weights, uint8_t* shared)
{
    if (step >= p.chunks) return;
    const uint32_t high = ptx::pack2<typename Tile::T>(p.high, p.high);
    const int live = p.expanded_channels - step * chunk_channels;
    uint8_t* const hidden = shared + step % 2 * p.hidden_bytes;
    input.for_each(p, lane, [&](int unit) { expand_unit<Tile>(p, lane, input, unit, weights, live, high, hidden); });
}

template <class Tile>
__device__ __forceinline__ void project_step(const TileArguments& p, const Lane& lane, const Part& part, int window, int step,
                                             const StepWeights<Tile>& weights, uint8_t* shared, ProjectSums<Tile>& sum)
{
    const uint32_t high = ptx::pack2<typename Tile::T>(p.high, p.high);
    const uint8_t* const hidden = shared + (step + 1) % 2 * p.hidden_bytes;
    if constexpr (Tile::direct) {
        if (step > 0) convolve_and_project<Tile>(p, lane, part, hidden + window, weights, high, sum);
    } else {
        if (step > 0 && step <= p.chunks)
            convolve_to_exchange<Tile>(p, lane, hidden, weights.depthwise(), high, exchange_of(p, shared, step - 1));
        if (step > 1) project_exchanged<Tile>(p, lane, part, exchange_of(p, shared, step), weights.project(), sum);
    }
}

template <class Tile>
__global__ void __launch_bounds__(32 * Tile::most_warps) tile_block_kernel(TileArguments p)
{
    MNV2_DYNAMIC_SHARED(shared);
    const int thread = threadIdx.x;
    const Lane lane{thread / 32, thread % 32, thread % 32 / 4, thread % 4};
    const Region region = region_of<Tile>(p, blockIdx.x);
    StepWeights<Tile>(p, shared, 0).fetch(p, 0);
    zero_hidden(p, shared, 2);

    if constexpr (Tile::held)
        if (lane.warp >= p.workers) {
            const InputUnits<Tile> input(p, region, lane, shared);
            for_each_step<Tile>(p, shared, [&](int step, const StepWeights<Tile>& weights) {
                expand_step<Tile>(p, lane, input, step, weights, shared);
            });
            return;
        }
    const Part part = part_of<Tile>(p, lane);
    const int window = Tile::direct ? window_at<Tile>(p, lane, lane.warp * Tile::stack) : 0;
    float sum[Tile::row_tiles][2 * Tile::column_pairs][4] = {};
    if constexpr (Tile::held) {
        for_each_step<Tile>(p, shared, [&](int step, const StepWeights<Tile>& weights) {
            project_step<Tile>(p, lane, part, window, step, weights, shared, sum);
        });
    } else {
        const InputUnits<Tile> input(p, region, lane, shared);
        for_each_step<Tile>(p, shared, [&](int step, const StepWeights<Tile>& weights) {
            expand_step<Tile>(p, lane, input, step, weights, shared);
            project_step<Tile>(p, lane, part, window, step, weights, shared, sum);
        });
    }
    store_part<Tile>(p, region, lane, part, sum);
}

}  // namespace mnv2::cuda
