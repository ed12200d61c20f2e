// The pointwise microkernel: tiles of MR pixels by NR output channels over the whole depth, their sums in vector registers.
#pragma once

#include <cstdint>

#include "cpu/generic/pointwise/pointwise-inl.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

// Tiles of consecutive pixels. The loop over them is in here: a call for each takes some 20 cycles (NOTES.md).
template <int MR, int VECTORS, bool IS_LONG>
void pointwise_tiles(const PointwiseLayer& layer, int64_t tiles, const Stored* x, const float* panel, float* y,
                     int64_t last_lanes, const Stored* residual, NextPanel& next)
{
    for (; tiles > 0; --tiles) {
        Accumulators<MR, VECTORS> sums;
        sum_tile<IS_LONG>(sums, layer.depth, layer.x_plane, x, panel + 2 * VECTORS * lanes, next.for_next_tile());
        finish_tile(sums, panel, layer.epilogue, y, last_lanes, residual);
        x += MR * lanes;
        y += MR * layer.epilogue.y_pixel;
        if (residual) residual += MR * lanes;
    }
}

template <int VECTORS, bool IS_LONG>
constexpr auto pointwise_kernels =
    kernels_by_height<PointwiseTiles, max_mr[VECTORS - 1]>([]<int MR>() { return pointwise_tiles<MR, VECTORS, IS_LONG>; });

// Only float32 sums have tiles of their own for long sums.
template <int VECTORS>
LayerKernels kernels_of(const PointwiseLayer& layer)
{
    const bool is_long = layer.depth >= long_depth;
    if constexpr (type_of<Stored> == ScalarType::float32)
        if (is_long) return {pointwise_kernels<VECTORS, true>.of_mr, max_mr[VECTORS - 1]};
    return {pointwise_kernels<VECTORS, false>.of_mr, max_mr[VECTORS - 1]};
}

// One panel over consecutive pixels, in tiles of nearly equal height: a short last tile would leave multiply-add chains idle.
// depth_floats: the panel's weights of one depth.
MNV2_INLINE void run_tiles(const LayerKernels& kernels, int64_t depth_floats, const PointwiseLayer& layer, int64_t pixels,
                           const Stored* x, const float* panel, float* y, int64_t last_lanes, const Stored* residual)
{
    const int64_t tiles = divide_up(pixels, kernels.max_mr);
    const int64_t mr = pixels / tiles, higher = pixels % tiles;
    NextPanel next(column_floats(layer.depth) * depth_floats, fetched_together(layer.depth) * depth_floats, tiles);
    if (higher) kernels.of_mr[mr + 1](layer, higher, x, panel, y, last_lanes, residual, next);
    const int64_t done = higher * (mr + 1);
    kernels.of_mr[mr](layer, tiles - higher, x + done * lanes, panel, y + done * layer.epilogue.y_pixel, last_lanes,
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
