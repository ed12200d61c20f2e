// The forms of general_block's kernel, the sizes of its packed weights, and what a launch tells it.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "cuda/common/epilogue.h"
#include "cuda/common/sizes.h"

namespace mnv2::cuda {

constexpr int slab_depth = 32;                   // input channels that are streamed together
constexpr int tile_stride = chunk_channels + 4;  // odd in 16 bytes: eight pixels' quads lie in different banks
constexpr int pixel_lanes = 8;                   // lanes that differ in their pixels; four of each have other channels
constexpr int thread_quads = 2;                  // quads of channels that a thread has in a chunk
constexpr int constant_rows = 2;                 // scale and bias

// Rows of a chunk's depthwise weights: taps, scale and bias. Without a window (kernel 1) there are none.
constexpr int depthwise_rows_of(int64_t kernel)
{
    return kernel == 1 ? 0 : static_cast<int>(taps_of(kernel)) + constant_rows;
}

// The form of a kernel. A warp projects 8 * pixels output pixels with all columns of a slice. Or the work is spread: for
// launches of few tiles, warps share several chunks at a time, and their sums are added up in shared memory, in the same order.
struct GeneralShape {
    int warps, pixels, columns, blocks_per_sm;
    bool spread = false;

    bool operator==(const GeneralShape&) const = default;

    constexpr int threads() const { return 32 * warps; }
    constexpr int warp_pixels() const { return pixel_lanes * pixels; }
    constexpr int tile_pixels() const { return warps * warp_pixels(); }
};

// A thread block of four warps makes 128 pixels, half an image of 14x14 or two of 7x7; with more columns the totals fill the
// registers, which leaves room for fewer thread blocks.
constexpr GeneralShape general_shapes[] = {
    {.warps = 8, .pixels = 4, .columns = 32, .blocks_per_sm = 2},   // a tile of 14x14, whose halo is 256 pixels
    {.warps = 4, .pixels = 4, .columns = 32, .blocks_per_sm = 4},   // stride 2, few pixels, and small images
    {.warps = 4, .pixels = 4, .columns = 64, .blocks_per_sm = 3},   //
    {.warps = 4, .pixels = 4, .columns = 96, .blocks_per_sm = 2},   //
    {.warps = 4, .pixels = 4, .columns = 160, .blocks_per_sm = 2},  // more channels come in slices
    {.warps = 8, .pixels = 2, .columns = 160, .blocks_per_sm = 1, .spread = true}};  // fewer tiles than multiprocessors

template <GeneralShape shape>
struct GeneralBlock {
    static constexpr bool spread = shape.spread;
    static constexpr int warps = shape.warps, threads = shape.threads(), blocks_per_sm = shape.blocks_per_sm;
    static constexpr int pixels = shape.pixels, warp_pixels = shape.warp_pixels();
    static constexpr int columns = shape.columns, parts = columns / chunk_channels;
};

// What a thread block works on. It lies in shared memory, as registers are scarce.
struct GeneralTile {
    int64_t block;  // its number
    int64_t first_image;
    int images, out_y, out_x;
    int top, left, bottom, right;  // the part of the input inside the image
    int pixels;                    // pixels of that part in all images
    int first_channel, channels;   // output channels
};

// Where things lie in shared memory, in floats; the tile first.
struct GeneralBlockLayout {
    int sources, places, expand_constants, expand_weights, expand_slab, depthwise, project, input, input_slab, input_stride;
    int expanded, expanded_plane, depthwise_out, depthwise_out_plane;  // each chunk under way has a plane
    int partials, partial_plane, totals, row;  // where the work is spread; row: floats of a pixel in both
    int floats;
};

struct GeneralBlockArguments {
    ScalarType type;  // the tensors'; as a template parameter it would compile everything three times for few loads and stores
    const void* input;
    void* output;
    const float* packed;
    const void* shortcut;             // what is added to the result of a block with a residual
    const float* factors;             // without a window (kernel 1): what multiplies each image's channels
    int64_t chunks_at, chunk_floats;  // where the chunks' packed weights begin, and floats of one
    int64_t batch, blocks;            // blocks: tiles times slices
    int in_channels, expanded_channels, out_channels;
    int height, width, out_height, out_width, padding_top, padding_left, stride, kernel;
    int depthwise_rows;
    int images, tile_height, tile_width, halo_height, halo_width;
    int tile_rows, tile_columns;  // tiles of an image
    int slices, slice_channels;
    int slabs, depth;  // depth: input channels of a slab; the last slab may have fewer
    int planes;        // chunks that are worked on at a time
    GeneralBlockLayout layout;
    Epilogue expand, depthwise, project;
    bool has_expand, residual;
};

constexpr int64_t expand_floats(int in_channels, bool has_expand)
{
    return has_expand ? (constant_rows + round_up(in_channels, quad_channels)) * int64_t{chunk_channels} : 0;
}

constexpr int64_t chunk_floats(int in_channels, int out_channels, bool has_expand, int kernel)
{
    return expand_floats(in_channels, has_expand) + int64_t{depthwise_rows_of(kernel)} * chunk_channels +
           int64_t{chunk_channels} * round_up(out_channels, quad_channels);
}

}  // namespace mnv2::cuda
