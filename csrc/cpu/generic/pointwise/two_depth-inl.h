// Tiles of a panel that holds two depths of each channel side by side (core/packing.h): the last panel of a layer whose last
// vector would otherwise be half empty. A pixel's two depths are broadcast as one number of 64 bits, by a pipe that does not
// multiply. Neighbouring lanes are added when all depths are done.
#pragma once

#include <cstdint>

#include "cpu/generic/pointwise/registers-inl.h"
#include "cpu/generic/pointwise/sums-inl.h"
#include "cpu/generic/pointwise/tiles-inl.h"
#include "cpu/simd/macros.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

// sums += two depths of each pixel, or the last one alone, times their weights.
template <bool IS_ALONE, int MR, int VECTORS>
MNV2_INLINE void add_two_depths(Accumulators<MR, VECTORS>& sums, const float* x, const float* weights)
{
    Vec w[VECTORS];
    MNV2_UNROLL
    for (int v = 0; v < VECTORS; ++v) w[v] = load(weights + v * lanes);
    MNV2_UNROLL
    for (int r = 0; r < MR; ++r) {
        const Vec two = IS_ALONE ? broadcast_one_of_two(x + r * lanes) : broadcast_two(x + r * lanes);
        MNV2_UNROLL
        for (int v = 0; v < VECTORS; ++v) fma_into(sums.at[r][v], w[v], two);
    }
}

// sums += `depth` depths of each pixel; x and weights move on by them. What lies behind an odd last depth is not read: it may
// be infinite.
template <int MR, int VECTORS>
MNV2_INLINE void add_depths_by_two(Accumulators<MR, VECTORS>& sums, int64_t depth, int64_t x_plane, const float*& x,
                                   const float*& weights, const Ahead& ahead)
{
    constexpr int two_depths = VECTORS * lanes, unrolled = unrolled_k < 2 ? 2 : unrolled_k;
    for (; depth >= lanes; depth -= lanes, x += x_plane)
        for (int k = 0; k < lanes; k += unrolled) {
            if constexpr (fetch_ahead != FetchAhead::never) fetch(ahead, weights);
            MNV2_UNROLL
            for (int u = 0; u < unrolled; u += 2, weights += two_depths) add_two_depths<false>(sums, x + k + u, weights);
        }
    int64_t k = 0;
    for (; k + 2 <= depth; k += 2, weights += two_depths) add_two_depths<false>(sums, x + k, weights);
    if (k < depth) add_two_depths<true>(sums, x + k, weights);
}

// The sums of one tile over the whole depth, of even and odd depths apart.
template <bool IS_LONG, int MR, int VECTORS>
MNV2_INLINE void sum_by_two(Accumulators<MR, VECTORS>& sums, int64_t depth, int64_t x_plane, const float* x,
                            const float* weights, const Ahead& ahead)
{
    clear(sums);
    if constexpr (IS_LONG) {
        SecondAccumulators<MR, VECTORS> second;
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

// Adds even and odd depths: an odd number of vectors becomes half as many, and the last one's second half zero.
template <int MR, int VECTORS>
MNV2_INLINE void add_even_and_odd(const Accumulators<MR, VECTORS>& halves, Accumulators<MR, (VECTORS + 1) / 2>& sums)
{
    MNV2_UNROLL
    for (int r = 0; r < MR; ++r) MNV2_UNROLL
    for (int v = 0; v < VECTORS; v += 2)
        sums.at[r][v / 2] = add_neighbours(halves.at[r][v], v + 1 < VECTORS ? halves.at[r][v + 1] : splat(0.0f));
}

template <int MR, int VECTORS, bool IS_LONG>
void two_depth_tiles(const PointwiseLayer& layer, int64_t tiles, const Stored* x, const float* panel, float* y,
                     int64_t last_lanes, const Stored* residual, NextPanel& next)
{
    constexpr int whole_vectors = (VECTORS + 1) / 2;
    for (; tiles > 0; --tiles) {
        Accumulators<MR, VECTORS> halves;
        sum_by_two<IS_LONG>(halves, layer.depth, layer.x_plane, x, panel + 2 * whole_vectors * lanes, next.for_next_tile());
        Accumulators<MR, whole_vectors> sums;
        add_even_and_odd(halves, sums);
        finish_tile(sums, panel, layer.epilogue, y, last_lanes, residual);
        x += MR * lanes;
        y += MR * layer.epilogue.y_pixel;
        if (residual) residual += MR * lanes;
    }
}

template <int VECTORS, bool IS_LONG>
constexpr auto two_depth_kernels = kernels_by_height<PointwiseTiles, two_depth_max_mr[VECTORS / 2]>(
    []<int MR>() { return two_depth_tiles<MR, VECTORS, IS_LONG>; });

template <int VECTORS>
void two_depth_panel(const PointwiseLayer& layer, int64_t pixels, const Stored* x, const float* panel, float* y,
                     int64_t last_lanes, const Stored* residual)
{
    const auto& kernels = layer.depth >= long_depth ? two_depth_kernels<VECTORS, true> : two_depth_kernels<VECTORS, false>;
    run_tiles({kernels.of_mr, two_depth_max_mr[VECTORS / 2]}, VECTORS * lanes / 2, layer, pixels, x, panel, y, last_lanes,
              residual);
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
