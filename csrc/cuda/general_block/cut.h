// How general_block cuts a layer into tiles, what lies where in shared memory, and what a launch is told of it.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/block.h"
#include "core/sums.h"
#include "cuda/common/arguments.h"
#include "cuda/common/sizes.h"
#include "cuda/general_block/config.h"
#include "cuda/general_block/plan.h"

namespace mnv2::cuda {

inline int64_t chunk_count(const InvertedResidualParams& params)
{
    return divide_up(params.expanded_channels, chunk_channels);
}

inline int64_t constants_floats(const InvertedResidualParams& params)
{
    return constant_rows * round_up(params.out_channels, quad_channels);
}

inline int64_t chunk_floats(const InvertedResidualParams& params)
{
    return cuda::chunk_floats(static_cast<int>(params.in_channels), static_cast<int>(params.out_channels), params.has_expand,
                              params.kernel);
}

struct Halo {
    int64_t height, width;
    int64_t pixels;  // pixels of all images
    int64_t inputs;  // the most pixels of any tile that lie inside the image
};

// The most halo rows, or columns, of any tile that lie inside the image: the first or the last tile has them, the first one
// behind the padding or the one before.
inline int64_t most_inside(int64_t tile, int64_t halo, int64_t size, int64_t out_size, int32_t stride, int32_t padding)
{
    const int64_t last = divide_up(out_size, tile) - 1, behind = divide_up(padding, tile * stride);
    int64_t most = 0;
    for (const int64_t tile_index : {int64_t{0}, behind - 1, behind, last}) {
        const int64_t i = std::clamp<int64_t>(tile_index, 0, last);
        const int64_t first = i * tile * stride - padding;
        most = std::max(most, std::min(first + halo, size) - std::max<int64_t>(first, 0));
    }
    return most;
}

inline Halo halo_of(const InvertedResidualParams& params, const Cut& cut)
{
    const int64_t height = (cut.tile_height - 1) * params.stride + params.kernel;
    const int64_t width = (cut.tile_width - 1) * params.stride + params.kernel;
    const int64_t rows =
        most_inside(cut.tile_height, height, params.height, params.out_height(), params.stride, params.padding.top);
    const int64_t columns =
        most_inside(cut.tile_width, width, params.width, params.out_width(), params.stride, params.padding.left);
    return {height, width, cut.images * height * width, cut.images * rows * columns};
}

// Calls visit(piece) for the sizes up to `most` that cut a dimension into equal pieces, the largest first.
template <class Visit>
void visit_pieces(int64_t size, int64_t most, const Visit& visit)
{
    for (int64_t piece = std::min(size, most); piece > 0; --piece) {
        piece = divide_up(size, divide_up(size, piece));
        visit(piece);
    }
}

// Calls visit(height, width) for the tiles of an image.
template <class Visit>
void visit_tiles(const InvertedResidualParams& params, int64_t most_pixels, const Visit& visit)
{
    visit_pieces(params.out_width(), most_pixels, [&](int64_t width) {
        visit_pieces(params.out_height(), most_pixels / width, [&](int64_t height) { visit(height, width); });
    });
}

inline int64_t slice_count(const InvertedResidualParams& params, const Cut& cut)
{
    return divide_up(params.out_channels, cut.slice_channels);
}

inline int64_t block_count(const InvertedResidualParams& params, const Cut& cut)
{
    return divide_up(params.batch, cut.images) * divide_up(params.out_height(), cut.tile_height) *
           divide_up(params.out_width(), cut.tile_width) * slice_count(params, cut);
}

// From 192 depths on sums are taken in runs (kernel.cuh), so that the input can be streamed.
constexpr int64_t least_depth_in_slabs = long_depth;

inline int64_t depth_of_slabs(const InvertedResidualParams& params)
{
    return params.in_channels < least_depth_in_slabs ? round_up(params.in_channels, quad_channels) : slab_depth;
}

inline int64_t slab_count(const InvertedResidualParams& params)
{
    return params.has_expand ? divide_up(params.in_channels, depth_of_slabs(params)) : 1;
}

// The stride of a pixel is an odd number of 16 bytes, so that neighbours lie in different banks.
inline int64_t input_stride(int64_t depth)
{
    return depth / quad_channels % 2 != 0 ? depth : depth + quad_channels;
}

inline GeneralBlockLayout layout_of(const GeneralShape& shape, const InvertedResidualParams& params, const Cut& cut)
{
    GeneralBlockLayout layout{};
    int64_t floats = 0;
    const auto place = [&](int64_t count) {
        const int64_t at = floats;
        floats += round_up(count, quad_channels);
        return static_cast<int>(at);
    };
    constexpr int64_t tile_floats = sizeof(GeneralTile) / sizeof(float), source_floats = sizeof(int64_t) / sizeof(float);
    const Halo halo = halo_of(params, cut);
    place(tile_floats);
    layout.sources = place(halo.inputs * source_floats);
    layout.places = place(halo.inputs);
    if (params.has_expand) {
        const int64_t depth = depth_of_slabs(params), buffers = slab_count(params) > 1 ? 2 : 1;
        layout.expand_constants = place(cut.planes * constant_rows * chunk_channels);
        layout.expand_slab = static_cast<int>(cut.planes * depth * chunk_channels);
        layout.expand_weights = place(buffers * layout.expand_slab);
        layout.input_stride = static_cast<int>(input_stride(depth));
        layout.input_slab = static_cast<int>(halo.inputs * layout.input_stride);
        layout.input = place(buffers * layout.input_slab);
    }
    layout.depthwise = place(cut.planes * depthwise_rows_of(params.kernel) * chunk_channels);
    layout.project = place(cut.planes * chunk_channels * (shape.spread ? cut.slice_channels : shape.columns));
    layout.expanded_plane = static_cast<int>(halo.pixels * tile_stride);
    layout.expanded = place(cut.planes * layout.expanded_plane);
    layout.depthwise_out_plane = static_cast<int>(cut.pixels() * tile_stride);
    layout.depthwise_out = place(cut.planes * layout.depthwise_out_plane);
    if (shape.spread) {
        layout.row = static_cast<int>(cut.slice_channels + quad_channels);  // odd in 16 bytes
        layout.partial_plane = static_cast<int>(cut.pixels() * layout.row);
        layout.partials = place(cut.planes * layout.partial_plane);
        layout.totals = place(layout.partial_plane);
    }
    layout.floats = static_cast<int>(floats);
    return layout;
}

// What a launch tells the kernel of a layer and its cut: all but the tensors.
inline GeneralBlockArguments general_arguments(const InvertedResidualParams& params, const Cut& cut,
                                               const GeneralBlockLayout& layout, ScalarType type)
{
    const auto number = [](int64_t value) { return static_cast<int>(value); };
    const Halo halo = halo_of(params, cut);
    GeneralBlockArguments arguments{};
    set_block(params, arguments);
    arguments.type = type;
    arguments.blocks = block_count(params, cut);
    arguments.stride = params.stride;
    arguments.images = number(cut.images);
    arguments.tile_height = number(cut.tile_height);
    arguments.tile_width = number(cut.tile_width);
    arguments.halo_height = number(halo.height);
    arguments.halo_width = number(halo.width);
    arguments.tile_rows = number(divide_up(params.out_height(), cut.tile_height));
    arguments.tile_columns = number(divide_up(params.out_width(), cut.tile_width));
    arguments.slices = number(slice_count(params, cut));
    arguments.slice_channels = number(cut.slice_channels);
    arguments.slabs = number(slab_count(params));
    arguments.depth = number(depth_of_slabs(params));
    arguments.planes = number(cut.planes);
    arguments.chunks_at = constants_floats(params);
    arguments.chunk_floats = chunk_floats(params);
    arguments.layout = layout;
    arguments.kernel = params.kernel;
    arguments.depthwise_rows = depthwise_rows_of(params.kernel);
    arguments.expand = epilogue_of(params.activation);
    arguments.depthwise = epilogue_of(params.activation_behind_depthwise());
    arguments.project = epilogue_of(params.project_activation);
    arguments.has_expand = params.has_expand;
    return arguments;
}

}  // namespace mnv2::cuda
