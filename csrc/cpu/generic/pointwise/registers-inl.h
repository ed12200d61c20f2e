// The pointwise microkernel: tiles of ROWS pixels by VECTORS vectors of output channels over the whole depth, their sums in
// vector registers.
#pragma once

#include <cstdint>
#include <utility>

#include "cpu/generic/pointwise/pointwise-inl.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

// Tiles of consecutive pixels. The loop over them is in here: a call for each takes some 20 cycles (NOTES.md).
template <int ROWS, int VECTORS, bool IS_LONG>
void pointwise_tiles(const PointwiseLayer& layer, int64_t tiles, const Stored* x, const float* panel, float* y,
                     int64_t last_lanes, const Stored* residual, NextPanel& next)
{
    for (; tiles > 0; --tiles) {
        Accumulators<ROWS, VECTORS> sums;
        sum_tile<IS_LONG>(sums, layer.depth, layer.x_plane, x, panel + 2 * VECTORS * lanes, next.share_of_next_tile());
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
    if constexpr (type_of<Stored> == ScalarType::float32)
        if (is_long) return {pointwise_kernels<VECTORS, true>.of_rows, tile_rows[VECTORS - 1]};
    return {pointwise_kernels<VECTORS, false>.of_rows, tile_rows[VECTORS - 1]};
}

// One panel over consecutive pixels, in tiles of nearly equal height: a short last tile would leave multiply-add chains idle.
// depth_floats: weights of a depth.
MNV2_INLINE void run_tiles(const LayerKernels& kernels, int64_t depth_floats, const PointwiseLayer& layer, int64_t pixels,
                           const Stored* x, const float* panel, float* y, int64_t last_lanes, const Stored* residual)
{
    const int64_t tiles = (pixels + kernels.max_rows - 1) / kernels.max_rows;
    const int64_t rows = pixels / tiles, higher = pixels % tiles;
    NextPanel next(column_floats(layer.depth) * depth_floats, fetched_together(layer.depth) * depth_floats, tiles);
    if (higher) kernels.of_rows[rows + 1](layer, higher, x, panel, y, last_lanes, residual, next);
    const int64_t done = higher * (rows + 1);
    kernels.of_rows[rows](layer, tiles - higher, x + done * lanes, panel, y + done * layer.epilogue.y_pixel, last_lanes,
                          residual ? residual + done * lanes : nullptr, next);
}

template <int VECTORS>
void pointwise_panel(const PointwiseLayer& layer, int64_t pixels, const Stored* x, const float* panel, float* y,
                     int64_t last_lanes, const Stored* residual)
{
    run_tiles(kernels_of<VECTORS>(layer), VECTORS * lanes, layer, pixels, x, panel, y, last_lanes, residual);
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
