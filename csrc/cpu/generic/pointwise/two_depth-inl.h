// Tiles of a panel that holds two depths of each channel side by side (core/packing.h): the last one of a layer whose last
// vector would otherwise be half empty. A pixel's two depths are broadcast as one number of 64 bits, which takes no unit that
// multiplies, and neighbouring lanes are added when all depths are done.
#pragma once

#include <cstdint>
#include <utility>

#include "cpu/generic/pointwise/registers-inl.h"
#include "cpu/generic/pointwise/sums-inl.h"
#include "cpu/generic/pointwise/tiles-inl.h"
#include "cpu/simd/macros.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

// sums += two depths of each pixel, or the last one alone, times their weights.
template <bool IS_ALONE, int ROWS, int VECTORS>
MNV2_INLINE void add_two_depths(Accumulators<ROWS, VECTORS>& sums, const float* x, const float* weights)
{
    Vec w[VECTORS];
    MNV2_UNROLL
    for (int v = 0; v < VECTORS; ++v) w[v] = load(weights + v * lanes);
    MNV2_UNROLL
    for (int r = 0; r < ROWS; ++r) {
        const Vec two = IS_ALONE ? broadcast_one_of_two(x + r * lanes) : broadcast_two(x + r * lanes);
        MNV2_UNROLL
        for (int v = 0; v < VECTORS; ++v) fma_into(sums.at[r][v], w[v], two);
    }
}

// sums += so many depths of each pixel; x and weights move on by them. Behind an odd last depth there is nothing to read: what
// lies there may be infinite.
template <int ROWS, int VECTORS>
MNV2_INLINE void add_depths_by_two(Accumulators<ROWS, VECTORS>& sums, int64_t depth, int64_t x_plane, const float*& x,
                                   const float*& weights, const Ahead& ahead)
{
    constexpr int width = VECTORS * lanes, unrolled = unrolled_depths < 2 ? 2 : unrolled_depths;
    for (; depth >= lanes; depth -= lanes, x += x_plane)
        for (int k = 0; k < lanes; k += unrolled) {
            if constexpr (fetch_ahead != FetchAhead::never) fetch(ahead, weights);
            MNV2_UNROLL
            for (int u = 0; u < unrolled; u += 2, weights += width) add_two_depths<false>(sums, x + k + u, weights);
        }
    int64_t k = 0;
    for (; k + 2 <= depth; k += 2, weights += width) add_two_depths<false>(sums, x + k, weights);
    if (k < depth) add_two_depths<true>(sums, x + k, weights);
}

// The sums of one tile over the whole depth, of even and odd depths apart.
template <bool IS_LONG, int ROWS, int VECTORS>
MNV2_INLINE void sum_by_two(Accumulators<ROWS, VECTORS>& sums, int64_t depth, int64_t x_plane, const float* x,
                            const float* weights, const Ahead& ahead)
{
    clear(sums);
    if constexpr (IS_LONG) {
        SecondAccumulators<ROWS, VECTORS> second;
        int64_t left = depth;
        for (; left > sum_depth; left -= sum_depth) {
            add_depths_by_two(sums, sum_depth, x_plane, x, weights, ahead);
            second.take(sums, left == depth);
        }
        add_depths_by_two(sums, left, x_plane, x, weights, ahead);
        second.give(sums);
    } else {
        add_depths_by_two(sums, depth, x_plane, x, weights, ahead);
    }
}

// Even and odd depths added up: an odd number of vectors becomes half as many, the last one's second half zero.
template <int ROWS, int VECTORS>
MNV2_INLINE void add_even_and_odd(const Accumulators<ROWS, VECTORS>& halves, Accumulators<ROWS, (VECTORS + 1) / 2>& sums)
{
    MNV2_UNROLL
    for (int r = 0; r < ROWS; ++r) MNV2_UNROLL
    for (int v = 0; v < VECTORS; v += 2)
        sums.at[r][v / 2] = add_neighbours(halves.at[r][v], v + 1 < VECTORS ? halves.at[r][v + 1] : splat(0.0f));
}

template <int ROWS, int VECTORS, bool IS_LONG>
void two_depth_tiles(const PointwiseLayer& layer, int64_t tiles, const Stored* x, const float* panel, float* y,
                     int64_t last_lanes, const Stored* residual, NextPanel& next)
{
    constexpr int whole_vectors = (VECTORS + 1) / 2;
    for (; tiles > 0; --tiles) {
        Accumulators<ROWS, VECTORS> halves;
        sum_by_two<IS_LONG>(halves, layer.depth, layer.x_plane, x, panel + 2 * whole_vectors * lanes,
                            next.share_of_next_tile());
        Accumulators<ROWS, whole_vectors> sums;
        add_even_and_odd(halves, sums);
        finish_tile(sums, panel, layer.epilogue, y, last_lanes, residual);
        x += ROWS * lanes;
        y += ROWS * layer.epilogue.y_pixel;
        if (residual) residual += ROWS * lanes;
    }
}

template <int VECTORS, bool IS_LONG, int... ROWS_BELOW>
constexpr auto list_two_depth_kernels(std::integer_sequence<int, ROWS_BELOW...>)
{
    return TileKernels<sizeof...(ROWS_BELOW)>{{nullptr, two_depth_tiles<ROWS_BELOW + 1, VECTORS, IS_LONG>...}};
}

template <int VECTORS, bool IS_LONG>
constexpr auto two_depth_kernels =
    list_two_depth_kernels<VECTORS, IS_LONG>(std::make_integer_sequence<int, two_depth_tile_rows[VECTORS / 2]>());

template <int VECTORS>
void two_depth_panel(const PointwiseLayer& layer, int64_t pixels, const Stored* x, const float* panel, float* y,
                     int64_t last_lanes, const Stored* residual)
{
    const auto& kernels = layer.depth >= long_depth ? two_depth_kernels<VECTORS, true> : two_depth_kernels<VECTORS, false>;
    run_tiles({kernels.of_rows, two_depth_tile_rows[VECTORS / 2]}, VECTORS * lanes / 2, layer, pixels, x, panel, y, last_lanes,
              residual);
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
