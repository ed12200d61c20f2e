// The pointwise microkernel: tiles of ROWS pixels by VECTORS vectors of output channels over the whole depth. Activations are
// blocked, [channels / lanes][pixels][lanes], so that a tile's pixels lie at constant displacements; weights are panels as
// core/packing.h describes them.
#pragma once

#include <cstdint>
#include <utility>

#include "core/block.h"
#include "core/packing.h"
#include "cpu/pair_tiles-inl.h"
#include "cpu/simd/convert-inl.h"
#include "cpu/simd/macros.h"
#include "cpu/sums-inl.h"
#include "cpu/tiles-inl.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

// What core/packing.h says of a panel.
constexpr int64_t column_floats(int64_t depth)
{
    return pointwise_column_floats(depth, {Isa::scalar, lanes, panel_vectors, type_of<Stored>});
}

// Tiles of consecutive pixels. The loop over them is in here: a call for each takes some 20 cycles (NOTES.md).
template <int ROWS, int VECTORS, bool IS_LONG>
void pointwise_tiles(const PointwiseLayer& layer, int64_t tiles, const Stored* x, const float* panel, float* y,
                     int64_t last_lanes, const Stored* residual)
{
    for (; tiles > 0; --tiles) {
        Accumulators<ROWS, VECTORS> sums;
        sum_tile<IS_LONG>(sums, layer.depth, layer.x_plane, x, panel + 2 * VECTORS * lanes);
        finish_tile(sums, panel, layer.epilogue, y, last_lanes, residual);
        x += ROWS * lanes;
        y += ROWS * layer.epilogue.y_pixel;
        if (residual) residual += ROWS * lanes;
    }
}

template <int VECTORS, bool IS_LONG, int... ROWS_BELOW>
constexpr auto list_pointwise_kernels(std::integer_sequence<int, ROWS_BELOW...>)
{
    return TileKernels<sizeof...(ROWS_BELOW)>{{nullptr, pointwise_tiles<ROWS_BELOW + 1, VECTORS, IS_LONG>...}};
}

template <int VECTORS, bool IS_LONG>
constexpr auto pointwise_kernels =
    list_pointwise_kernels<VECTORS, IS_LONG>(std::make_integer_sequence<int, tile_rows[VECTORS - 1]>());

// Only float32 sums have a form of their own for long ones.
template <int VECTORS>
LayerKernels kernels_of(const PointwiseLayer& layer)
{
    const bool is_long = layer.depth >= long_depth;
    if constexpr (has_pair_product)
        if (layer.pairs) return pair_kernels_of<VECTORS>(layer);
    if constexpr (type_of<Stored> == ScalarType::float32)
        if (is_long) return {pointwise_kernels<VECTORS, true>.of_rows, tile_rows[VECTORS - 1]};
    return {pointwise_kernels<VECTORS, false>.of_rows, tile_rows[VECTORS - 1]};
}

// One panel over consecutive pixels, in tiles of nearly equal height: a short last tile would leave multiply-add chains idle.
template <int VECTORS>
void pointwise_panel(const PointwiseLayer& layer, int64_t pixels, const Stored* x, const float* panel, float* y,
                     int64_t last_lanes, const Stored* residual)
{
    const LayerKernels kernels = kernels_of<VECTORS>(layer);
    const int64_t tiles = (pixels + kernels.max_rows - 1) / kernels.max_rows;
    const int64_t rows = pixels / tiles, higher = pixels % tiles;
    if (higher) kernels.of_rows[rows + 1](layer, higher, x, panel, y, last_lanes, residual);
    const int64_t done = higher * (rows + 1);
    kernels.of_rows[rows](layer, tiles - higher, x + done * lanes, panel, y + done * layer.epilogue.y_pixel, last_lanes,
                          residual ? residual + done * lanes : nullptr);
    if constexpr (has_pair_product)
        if (layer.pairs && layer.pairs->has_odd) odd_pixels<VECTORS>(layer, pixels, x, panel, y, last_lanes, residual);
}

// Output channels [first, last) of a layer with out_channels channels; first is a multiple of panel_width. y and residual
// point to channel first.
void pointwise(const PointwiseLayer& layer, int64_t first, int64_t last, int64_t pixels, const Stored* x, const float* packed,
               float* y, const Stored* residual)
{
    const int64_t column = layer.pairs ? pair_column_floats(layer.depth) : column_floats(layer.depth);
    const float* panel = packed + first * column;
    for (int64_t channel = first; channel < last; channel += panel_width) {
        const int64_t channels = last - channel;
        const int64_t last_lanes = lanes_of_last_vector(channels, layer.epilogue);
        if (channels > lanes)
            pointwise_panel<2>(layer, pixels, x, panel, y, last_lanes, residual);
        else
            pointwise_panel<1>(layer, pixels, x, panel, y, last_lanes, residual);
        panel += panel_width * column;
        y += panel_vectors * layer.epilogue.y_vector;
        if (residual) residual += panel_vectors * layer.epilogue.residual_plane;
    }
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
