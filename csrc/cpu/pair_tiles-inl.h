// Tiles by the pair product (core/pair_product.h). Only instruction sets with 32 registers whose arithmetic broadcasts from
// memory have it: a pair takes two registers more than a depth, and each of its additions an operand from memory.
#pragma once

#include <cstdint>
#include <utility>

#include "core/pair_product.h"
#include "core/sums.h"
#include "cpu/pair_pixels-inl.h"
#include "cpu/simd/macros.h"
#include "cpu/sums-inl.h"
#include "cpu/tiles-inl.h"

#ifdef MNV2_HAS_PAIR_PRODUCT

namespace mnv2::cpu::MNV2_ISA {
namespace {

// Pixels of tiles one and two vectors wide: 14 accumulators, as those of the prototype that reached 141 to 145 % of the
// multiply-add peak on Zen 4, leave registers for a pair's weights and its two sums.
constexpr int pair_tile_rows[] = {14, 7};

// sums += a pair of depths of each pixel times their weights.
template <bool IS_OPPOSITE, int ROWS, int VECTORS>
MNV2_INLINE void add_pair(Accumulators<ROWS, VECTORS>& sums, const float* x, const float* weights)
{
    Vec first[VECTORS], second[VECTORS];
    MNV2_UNROLL
    for (int v = 0; v < VECTORS; ++v) {
        first[v] = load(weights + v * lanes);
        second[v] = load(weights + (VECTORS + v) * lanes);
    }
    MNV2_UNROLL
    for (int r = 0; r < ROWS; ++r) MNV2_UNROLL
    for (int v = 0; v < VECTORS; ++v) {
        const Vec a = add_broadcast(second[v], x + r * lanes);
        const Vec b = IS_OPPOSITE ? sub_broadcast(first[v], x + r * lanes + 1) : add_broadcast(first[v], x + r * lanes + 1);
        sums.at[r][v] = fma(a, b, sums.at[r][v]);
    }
}

// sums += pairs PAIR, PAIR + 1, ... of a group of depths, the single ones spread between them.
template <int GROUP, int PAIR, int ROWS, int VECTORS>
MNV2_INLINE void add_group(Accumulators<ROWS, VECTORS>& sums, const float* x, const float* weights)
{
    constexpr int pairs = pairs_of_group(GROUP), singles = pair_group - 2 * pairs, width = VECTORS * lanes;
    if constexpr (PAIR < pairs) {
        constexpr int depth = 2 * PAIR;
        add_pair<is_opposite_pair(GROUP * pair_group + depth)>(sums, x + depth, weights + depth * width);
        MNV2_UNROLL
        for (int k = 2 * pairs + singles * PAIR / pairs; k < 2 * pairs + singles * (PAIR + 1) / pairs; ++k)
            add_depth<lanes>(sums, x + k, weights + k * width);
        add_group<GROUP, PAIR + 1>(sums, x, weights);
    }
}

// sums += so many depths of each pixel; x and weights move on by them.
template <int ROWS, int VECTORS>
MNV2_INLINE void add_paired_depths(Accumulators<ROWS, VECTORS>& sums, int64_t depth, int64_t x_plane, const float*& x,
                                   const float*& weights)
{
    constexpr int width = VECTORS * lanes;
    for (; depth >= lanes; depth -= lanes, x += x_plane, weights += lanes * width) {
        add_group<0, 0>(sums, x, weights);
        add_group<1, 0>(sums, x + pair_group, weights + pair_group * width);
    }
    int64_t k = 0;
    if (depth >= pair_group) {
        add_group<0, 0>(sums, x, weights);
        weights += pair_group * width;
        k = pair_group;
    }
    for (; k < depth; ++k, weights += width) add_depth<lanes>(sums, x + k, weights);
}

// sums = both corrections of each result.
template <int ROWS, int VECTORS>
MNV2_INLINE void correct(Accumulators<ROWS, VECTORS>& sums, const float* of_pixels, const float*& weights)
{
    MNV2_UNROLL
    for (int v = 0; v < VECTORS; ++v) {
        const Vec of_channels = load(weights + v * lanes);
        MNV2_UNROLL
        for (int r = 0; r < ROWS; ++r) sums.at[r][v] = add_broadcast(of_channels, of_pixels + r);
    }
    weights += VECTORS * lanes;
}

// The sums of one tile over the whole depth, of pixels from number `pixel` on.
template <bool IS_LONG, int ROWS, int VECTORS>
MNV2_INLINE void sum_pairs(Accumulators<ROWS, VECTORS>& sums, int64_t depth, const PairPixels& pixels, int64_t pixel,
                           const float* weights)
{
    const float* x = pixels.x + pixel * lanes;
    const float* corrections = pixels.corrections + pixel;
    if constexpr (IS_LONG) {
        SecondAccumulators<ROWS, VECTORS> second;
        int64_t left = depth;
        for (; left > sum_depth; left -= sum_depth, corrections += pixels.run_step) {
            correct(sums, corrections, weights);
            add_paired_depths(sums, sum_depth, pixels.x_plane, x, weights);
            second.take(sums, left == depth);
        }
        correct(sums, corrections, weights);
        add_paired_depths(sums, left, pixels.x_plane, x, weights);
        second.give(sums);
    } else {
        correct(sums, corrections, weights);
        add_paired_depths(sums, depth, pixels.x_plane, x, weights);
    }
    MNV2_UNROLL
    for (int r = 0; r < ROWS; ++r) {
        const Vec unscale = splat(pixels.unscale[pixel + r]);
        MNV2_UNROLL
        for (int v = 0; v < VECTORS; ++v) sums.at[r][v] = mul(sums.at[r][v], unscale);
    }
}

// sums += so many depths of one odd pixel, k the first one's number, without pairs: to the bits of the plain product one depth
// at a time, whose weights these are but for the scale and the signs.
template <int VECTORS>
void add_odd_depths(Accumulators<1, VECTORS>& sums, int64_t k, int64_t end, int64_t depth, const PairPixels& pixels,
                    const float* x, const float*& weights)
{
    for (; k < end; ++k, weights += VECTORS * lanes) {
        const float value = x[k / lanes * pixels.x_plane + k % lanes];
        const bool negated = k > 0 && starts_pair(k - 1, depth) && is_opposite_pair(k - 1);
        for (int v = 0; v < VECTORS; ++v)
            sums.at[0][v] = fma(load(weights + v * lanes), splat(negated ? -value : value), sums.at[0][v]);
    }
}

template <int VECTORS>
void sum_odd_pixel(Accumulators<1, VECTORS>& sums, int64_t depth, const PairPixels& pixels, int64_t pixel, const float* weights)
{
    SecondAccumulators<1, VECTORS> second;
    const float* x = pixels.x + pixel * lanes;
    const int64_t runs = runs_of(depth), run_depth = runs == 1 ? depth : sum_depth;
    clear(sums);
    for (int64_t run = 0; run < runs; ++run) {
        weights += VECTORS * lanes;  // the corrections
        add_odd_depths(sums, run * run_depth, smaller((run + 1) * run_depth, depth), depth, pixels, x, weights);
        if (run + 1 < runs) second.take(sums, run == 0);
    }
    if (runs > 1) second.give(sums);
}

// The number of a pixel of a layer in pairs.
MNV2_INLINE int64_t pixel_number(const PointwiseLayer& layer, const Stored* x)
{
    return (x - layer.pairs->x) / lanes;
}

// Odd pixels get a result of no use here; odd_pixels computes them again.
template <int ROWS, int VECTORS, bool IS_LONG>
void pair_tiles(const PointwiseLayer& layer, int64_t tiles, const Stored* x, const float* panel, float* y, int64_t last_lanes,
                const Stored* residual, NextPanel&)
{
    for (int64_t pixel = pixel_number(layer, x); tiles > 0; --tiles, pixel += ROWS) {
        Accumulators<ROWS, VECTORS> sums;
        sum_pairs<IS_LONG>(sums, layer.depth, *layer.pairs, pixel, panel + 2 * VECTORS * lanes);
        finish_tile(sums, panel, layer.epilogue, y, last_lanes, residual);
        y += ROWS * layer.epilogue.y_pixel;
        if (residual) residual += ROWS * lanes;
    }
}

// Then the odd pixels, one by one: which ones depends on the pixels alone, not on how they are cut into tiles.
template <int VECTORS>
void odd_pixels(const PointwiseLayer& layer, int64_t pixels, const Stored* x, const float* panel, float* y, int64_t last_lanes,
                const Stored* residual)
{
    const int64_t first = pixel_number(layer, x);
    for (int64_t pixel = 0; pixel < pixels; ++pixel) {
        if (layer.pairs->unscale[first + pixel] != 0.0f) continue;
        Accumulators<1, VECTORS> sums;
        sum_odd_pixel(sums, layer.depth, *layer.pairs, first + pixel, panel + 2 * VECTORS * lanes);
        finish_tile(sums, panel, layer.epilogue, y + pixel * layer.epilogue.y_pixel, last_lanes,
                    residual ? residual + pixel * lanes : nullptr);
    }
}

template <int VECTORS, bool IS_LONG, int... ROWS_BELOW>
constexpr auto list_pair_kernels(std::integer_sequence<int, ROWS_BELOW...>)
{
    return TileKernels<sizeof...(ROWS_BELOW)>{{nullptr, pair_tiles<ROWS_BELOW + 1, VECTORS, IS_LONG>...}};
}

template <int VECTORS, bool IS_LONG>
constexpr auto pair_kernels =
    list_pair_kernels<VECTORS, IS_LONG>(std::make_integer_sequence<int, pair_tile_rows[VECTORS - 1]>());

template <int VECTORS>
LayerKernels pair_kernels_of(const PointwiseLayer& layer)
{
    const auto& kernels = layer.depth >= long_depth ? pair_kernels<VECTORS, true> : pair_kernels<VECTORS, false>;
    return {kernels.of_rows, pair_tile_rows[VECTORS - 1]};
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA

#endif
