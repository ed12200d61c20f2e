// What the kernels of the stem share: input tiles in shared memory, and the convolution of three channels as mma.
//
// The 27 depths of a pixel's window are three rows of nine consecutive numbers of a tile whose pixels are three channels
// wide. A row is four pairs, one for each lane of a group, and a number that the lanes of index 0 to 2 take together, each for
// its row: so the A fragments, 32 depths in two steps, are four 32-bit loads a pixel. The packed weights have the same order.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "core/packing.h"
#include "cuda/common/pack_words.cuh"
#include "cuda/common/ptx.cuh"

namespace mnv2::cuda {

constexpr int stem_channels = 3;         // input channels
constexpr int stem_group_channels = 32;  // output channels that a warp makes at a time
constexpr int stem_column_tiles = stem_group_channels / 8;
constexpr int stem_depth_steps = 2;  // each has 16 depths
constexpr int stem_row_depths = stem_channels * static_cast<int>(kernel_size);
constexpr int stem_slots = 2 * stem_depth_steps;  // pairs of depths that a lane holds for a pixel

// How an image of 16-bit numbers lies in memory: planes and pixels have rows that are read 16 bytes at a time.
enum class StemLayout { any, planes, pixels };

// An input image as a kernel reads it.
struct StemInput {
    const void* data;
    int64_t stride_n, stride_c, stride_h, stride_w;
    int height, width;
    StemLayout layout;
};

constexpr int stem_piece = 8;  // 16-bit numbers in 16 bytes

inline StemLayout stem_layout(const StemParams& params, const InputView& x)
{
    const auto in_pieces = [](int64_t count) { return count % stem_piece == 0; };
    const bool is_aligned = reinterpret_cast<uintptr_t>(x.data) % 16 == 0 && in_pieces(x.stride_h) &&
                            (in_pieces(x.stride_n) || params.batch == 1) && scalar_bytes(x.dtype) == 2;
    if (!is_aligned || params.in_channels != stem_channels) return StemLayout::any;
    if (x.stride_w == 1 && in_pieces(x.stride_c) && in_pieces(params.width)) return StemLayout::planes;
    const bool is_packed = x.stride_c == 1 && x.stride_w == stem_channels;
    return is_packed && in_pieces(params.width * stem_channels) ? StemLayout::pixels : StemLayout::any;
}

inline StemInput stem_input(const StemParams& params, const InputView& x)
{
    return {x.data,
            x.stride_n,
            x.stride_c,
            x.stride_h,
            x.stride_w,
            static_cast<int>(params.height),
            static_cast<int>(params.width),
            stem_layout(params, x)};
}

// A part of an image with its halo; it is zero outside the image.
struct StemPart {
    int64_t image;
    int row, column, rows, columns, channel, channels;
};

// Calls put(row, column, channel, value) for every number of a part, each by one thread of the block. Neighbouring threads
// take what is likely to be neighbouring memory.
template <class X, class Put>
__device__ __forceinline__ void read_part(const StemInput& x, const StemPart& part, int thread, int threads, const Put& put)
{
    const X* const image = static_cast<const X*>(x.data) + part.image * x.stride_n + part.channel * x.stride_c;
    const auto read = [&](int row, int column, int channel) {
        const int y = part.row + row, at = part.column + column;
        const bool inside = static_cast<unsigned>(y) < static_cast<unsigned>(x.height) &&
                            static_cast<unsigned>(at) < static_cast<unsigned>(x.width);
        put(row, column, channel,
            inside ? image[y * x.stride_h + at * x.stride_w + channel * x.stride_c] : static_cast<X>(0.0f));
    };
    const int count = part.rows * part.columns * part.channels;
    if (x.stride_c < x.stride_w)
        for (int i = thread; i < count; i += threads)
            read(i / part.channels / part.columns, i / part.channels % part.columns, i % part.channels);
    else
        for (int i = thread; i < count; i += threads)
            read(i / part.columns % part.rows, i % part.columns, i / part.columns / part.rows);
}

// Where the pieces of a row begin: `shift` numbers before a multiple of 16 bytes. The shift is 1 where the first wanted number
// of the row has an odd index: it then has an even index in the tile, and windows of stride 2 are whole words.
struct StemPieces {
    int first, shift;  // first: an index in the row, which may be outside the image

    __device__ __forceinline__ explicit StemPieces(int wanted)
    {
        shift = wanted & 1;
        first = ((wanted + shift) & ~(stem_piece - 1)) - shift;
    }
};

// Eight numbers of a row: the eight of 16 bytes, or with a shift the number before them and the first seven.
template <int shift>
struct StemPiece {
    uint32_t before, words[4];

    // Numbers outside the image become zero.
    template <class T>
    __device__ __forceinline__ void load(const T* aligned, bool inside, bool before_inside)
    {
        const uint4 four = inside ? ptx::load_global_in_place<uint4>(aligned) : uint4{};
        words[0] = four.x, words[1] = four.y, words[2] = four.z, words[3] = four.w;
        if constexpr (shift != 0) before = before_inside ? ptx::load_global_in_place<uint16_t>(aligned - 1) : 0u;
    }

    // A word with number i of `upper` in its upper half and number j of `other` in its lower half.
    __device__ __forceinline__ static uint32_t join(const StemPiece& other, int j, const StemPiece& upper, int i)
    {
        const uint32_t a = other.word(j), b = upper.word(i);
        const bool high_a = (j - shift) % 2 == 1, high_b = (i - shift) % 2 == 1;
        return (high_a ? a >> 16 : a & 0xffffu) | (high_b ? b & 0xffff0000u : b << 16);
    }

private:
    __device__ __forceinline__ uint32_t word(int i) const { return i < shift ? before : words[(i - shift) / 2]; }
};

// A tile of outputs.
struct StemTileShape {
    int stride, rows, columns;
};

// The inputs of a tile, in shared memory.
template <class Element, StemTileShape shape>
struct StemTile {
    using T = Element;
    static constexpr int stride = shape.stride, rows = shape.rows, columns = shape.columns;
    static constexpr int in_rows = (rows - 1) * stride + 3, in_columns = (columns - 1) * stride + 3;

    // The pieces of a row begin up to six numbers before it.
    static constexpr int plane_pieces = divide_up(in_columns + 6, stem_piece);
    static constexpr int pixel_pieces = divide_up(in_columns * stem_channels + 6, stem_piece);

    // Windows of stride 1 read one word beyond a row. Rows are 8 or 24 banks apart, so that three lanes of a group and eight
    // pixels of a row find the rows' last numbers in different banks.
    static constexpr int least_words = plane_pieces * stem_piece * stem_channels / 2 + (stride == 1);
    static constexpr int row_words = (least_words + 7) / 16 * 16 + 8;
    static constexpr int row_bytes = row_words * static_cast<int>(sizeof(uint32_t)), bytes = in_rows * row_bytes;

    // Fills the tile with the inputs from row and column on, and returns where they begin.
    __device__ __forceinline__ static const uint8_t* read(const StemInput& x, int64_t image, int row, int column, uint8_t* tile,
                                                          int thread, int threads)
    {
        const T* const data = static_cast<const T*>(x.data) + image * x.stride_n;
        if (x.layout == StemLayout::planes) {
            const StemPieces pieces(column);
            if (pieces.shift)
                read_planes<1>(x, data, row, pieces.first, tile, thread, threads);
            else
                read_planes<0>(x, data, row, pieces.first, tile, thread, threads);
            return tile + (column - pieces.first) * stem_channels * static_cast<int>(sizeof(T));
        }
        if (x.layout == StemLayout::pixels) {
            const StemPieces pieces(column * stem_channels);
            if (pieces.shift)
                read_pixels<1>(x, data, row, pieces.first, tile, thread, threads);
            else
                read_pixels<0>(x, data, row, pieces.first, tile, thread, threads);
            return tile + (column * stem_channels - pieces.first) * static_cast<int>(sizeof(T));
        }
        read_part<T>(x, {image, row, column, in_rows, in_columns, 0, stem_channels}, thread, threads,
                     [&](int y, int x_at, int channel, T value) {
                         reinterpret_cast<T*>(tile + y * row_bytes)[x_at * stem_channels + channel] = value;
                     });
        return tile;
    }

    // Loads the pairs that a lane holds of the window of the output at (row, column).
    __device__ __forceinline__ static void load_window(const uint8_t* tile, int row, int column, int quad,
                                                       uint32_t (&slots)[stem_slots])
    {
        const uint32_t* const words = reinterpret_cast<const uint32_t*>(tile) + row * stride * row_words;
        const int first = column * stride * stem_channels;
#pragma unroll
        for (int y = 0; y < 3; ++y) slots[y] = load_pair(words + y * row_words, first + 2 * quad);
        slots[3] = quad < 3 ? load_pair(words + quad * row_words, first + stem_row_depths - 1) & 0xffffu : 0u;
    }

private:
    // Calls visit(row of the tile, piece, 16 bytes of the image, whether they and the number before them are inside) for every
    // piece of a tile whose rows begin at first.
    template <int shift, int row_pieces, class Visit>
    __device__ __forceinline__ static void for_pieces(const StemInput& x, const T* data, int length, int row, int first,
                                                      uint8_t* tile, int thread, int threads, const Visit& visit)
    {
#pragma unroll 1
        for (int i = thread; i < in_rows * row_pieces; i += threads) {
            const int y = i / row_pieces, piece = i % row_pieces, at = first + shift + piece * stem_piece;
            const bool row_inside = static_cast<unsigned>(row + y) < static_cast<unsigned>(x.height);
            visit(tile + y * row_bytes, piece, data + (row + y) * x.stride_h + at,
                  row_inside && static_cast<unsigned>(at) < static_cast<unsigned>(length),
                  row_inside && static_cast<unsigned>(at - 1) < static_cast<unsigned>(length));
        }
    }

    template <int shift>
    __device__ __forceinline__ static void read_planes(const StemInput& x, const T* data, int row, int first, uint8_t* tile,
                                                       int thread, int threads)
    {
        for_pieces<shift, plane_pieces>(
            x, data, x.width, row, first, tile, thread, threads,
            [&](uint8_t* to, int piece, const T* from, bool inside, bool before_inside) {
                StemPiece<shift> planes[stem_channels];
#pragma unroll
                for (int c = 0; c < stem_channels; ++c) planes[c].load(from + c * x.stride_c, inside, before_inside);
                uint32_t words[stem_piece / 2 * stem_channels];
#pragma unroll
                for (int i = 0; i < stem_piece / 2 * stem_channels; ++i) {
                    const int low = 2 * i, high = 2 * i + 1;
                    words[i] = StemPiece<shift>::join(planes[low % stem_channels], low / stem_channels,
                                                      planes[high % stem_channels], high / stem_channels);
                }
                uint4* const pixels = reinterpret_cast<uint4*>(to) + piece * stem_channels;
#pragma unroll
                for (int i = 0; i < stem_channels; ++i)
                    ptx::store_shared(pixels + i, uint4{words[i * 4], words[i * 4 + 1], words[i * 4 + 2], words[i * 4 + 3]});
            });
    }

    template <int shift>
    __device__ __forceinline__ static void read_pixels(const StemInput& x, const T* data, int row, int first, uint8_t* tile,
                                                       int thread, int threads)
    {
        for_pieces<shift, pixel_pieces>(
            x, data, x.width * stem_channels, row, first, tile, thread, threads,
            [&](uint8_t* to, int index, const T* from, bool inside, bool before_inside) {
                StemPiece<shift> piece;
                piece.load(from, inside, before_inside);
                const auto word = [&](int i) { return StemPiece<shift>::join(piece, 2 * i, piece, 2 * i + 1); };
                ptx::store_shared(reinterpret_cast<uint4*>(to) + index, uint4{word(0), word(1), word(2), word(3)});
            });
    }

    // With stride 1 every other window starts in the middle of a word.
    __device__ __forceinline__ static uint32_t load_pair(const uint32_t* words, int first)
    {
        const uint32_t* const from = words + first / 2;
        const uint32_t word = ptx::load_shared<uint32_t>(from);
        if constexpr (stride == 2) return word;
        const uint64_t both = word | static_cast<uint64_t>(ptx::load_shared<uint32_t>(from + 1)) << 32;
        return static_cast<uint32_t>(both >> (first % 2 * 16));
    }
};

// Biases as mma takes them, so that they are not copied for each product: for every column tile the lane's pair of channels,
// twice.
template <int column_tiles>
struct BiasFragments {
    static constexpr int words = 4 * column_tiles * 4;

    float at[column_tiles][4];

    __device__ __forceinline__ void load(const uint32_t* packed, int quad)
    {
#pragma unroll
        for (int n = 0; n < column_tiles; ++n) {
            const float4 four = ptx::load_global_in_place<float4>(packed + (quad * column_tiles + n) * 4);
            at[n][0] = four.x, at[n][1] = four.y, at[n][2] = four.z, at[n][3] = four.w;
        }
    }

    // The channel of a word; a quad of lanes has 2 column_tiles neighbouring channels.
    __host__ __device__ static constexpr int channel_of(int word)
    {
        return word / (column_tiles * 4) * column_tiles * 2 + word / 4 % column_tiles * 2 + word % 2;
    }
};

// A group of output channels as a lane holds it: packed as biases and B fragments. Lanes of index quad hold the eight
// channels from 8 quad on, as columns 2 quad, 2 quad + 1 of four tiles.
struct StemFragments {
    static constexpr int bias_words = BiasFragments<stem_column_tiles>::words;
    static constexpr int fragment_words = 64;
    static constexpr int words = bias_words + stem_depth_steps * stem_column_tiles * fragment_words;

    uint32_t b[stem_depth_steps][stem_column_tiles][2];
    BiasFragments<stem_column_tiles> bias;

    __device__ __forceinline__ void load(const uint32_t* group, int lane)
    {
        bias.load(group, lane % 4);
#pragma unroll
        for (int step = 0; step < stem_depth_steps; ++step)
#pragma unroll
            for (int n = 0; n < stem_column_tiles; ++n) {
                const uint32_t* const from = group + bias_words + (step * stem_column_tiles + n) * fragment_words;
                const uint2 pair = ptx::load_global_in_place<uint2>(from + lane * 2);
                b[step][n][0] = pair.x, b[step][n][1] = pair.y;
            }
    }

    // Convolves the windows of a lane group's two pixels.
    template <class T>
    __device__ __forceinline__ void convolve(const uint32_t (&first)[stem_slots], const uint32_t (&second)[stem_slots],
                                             float (&sums)[stem_column_tiles][4]) const
    {
#pragma unroll
        for (int n = 0; n < stem_column_tiles; ++n) {
            const uint32_t a[stem_depth_steps][4] = {{first[0], second[0], first[1], second[1]},
                                                     {first[2], second[2], first[3], second[3]}};
            ptx::mma_m16n8k16<T>(sums[n], a[0], b[0][n], bias.at[n]);
            ptx::mma_m16n8k16<T>(sums[n], a[1], b[1][n], sums[n]);
        }
    }
};

// Word i of a group from channel first on; scales are multiplied into the weights, which are rounded once.
template <class T>
__device__ inline uint32_t stem_fragment_word(const LayerWeights& layer, int64_t first, int i)
{
    if (i < StemFragments::bias_words)
        return ptx::float_word(layer.bias(first + BiasFragments<stem_column_tiles>::channel_of(i)));
    i -= StemFragments::bias_words;
    const int fragment = i / StemFragments::fragment_words, lane = i % StemFragments::fragment_words / 2;
    const int step = fragment / stem_column_tiles, tile = fragment % stem_column_tiles;
    const int slot = step * 2 + i % 2, quad = lane % 4, column = lane / 4;
    const int64_t channel = first + column / 2 * 8 + tile * 2 + column % 2;
    const auto weight = [&](int row, int depth) {
        if (row >= 3 || depth >= stem_row_depths) return 0.0f;
        const int from_channel = depth % stem_channels, from_column = depth / stem_channels;
        return layer.scaled(channel, from_channel * kernel_taps + row * kernel_size + from_column);
    };
    const int row = slot < 3 ? slot : quad, depth = slot < 3 ? 2 * quad : stem_row_depths - 1;
    return ptx::pack2<T>(weight(row, depth), weight(row, depth + 1));
}

}  // namespace mnv2::cuda
