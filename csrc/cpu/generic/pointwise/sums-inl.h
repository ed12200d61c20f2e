// The sums of a tile, in float32: MR pixels by NR output channels, which are VECTORS vectors.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "core/packing.h"
#include "core/sizes.h"
#include "core/sums.h"
#include "cpu/simd/convert-inl.h"
#include "cpu/simd/macros.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

// Upper limit of the depths that are summed without a second accumulator in between.
constexpr int64_t summed_together(int64_t depth)
{
    return depth < long_depth ? depth : sum_depth;
}

// Whether a tile fetches ahead in each pass over unrolled_k depths, not in one burst. Few large tiles have too much to fetch
// for one burst: at 7 x 7 AVX-512 gains 5 % by a burst and 25 % by each pass. Smaller tiles gain the same by both, and a burst
// executes less.
constexpr bool fetches_each_pass = register_count >= 32;

constexpr int panel_width = panel_vectors * lanes;

constexpr int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

constexpr int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

constexpr int64_t vectors_of(int64_t channels)
{
    return divide_up(channels, lanes);
}

// Kernels by the height of their tiles; none of height 0.
template <class Kernel, int MAX_MR>
struct TileKernels {
    Kernel of_mr[MAX_MR + 1];
};

template <int MR, class Kernel, int MAX_MR, class KernelOf>
constexpr void list_kernels(TileKernels<Kernel, MAX_MR>& kernels, const KernelOf& kernel_of)
{
    kernels.of_mr[MR] = kernel_of.template operator()<MR>();
    if constexpr (MR < MAX_MR) list_kernels<MR + 1>(kernels, kernel_of);
}

// For every height up to the tallest: kernel_of<MR>() is the one for tiles of MR rows.
template <class Kernel, int MAX_MR, class KernelOf>
constexpr TileKernels<Kernel, MAX_MR> kernels_by_height(const KernelOf& kernel_of)
{
    TileKernels<Kernel, MAX_MR> kernels{};
    list_kernels<1>(kernels, kernel_of);
    return kernels;
}

template <int MR, int VECTORS>
struct Accumulators {
    Vec at[MR][VECTORS];
};

template <int MR, int VECTORS>
MNV2_INLINE void clear(Accumulators<MR, VECTORS>& sums)
{
    MNV2_UNROLL
    for (int r = 0; r < MR; ++r) MNV2_UNROLL
    for (int v = 0; v < VECTORS; ++v) sums.at[r][v] = splat(0.0f);
}

// sums += one depth of each pixel times its weights. x: the first pixel's; pixels lie X_STRIDE floats apart.
template <int X_STRIDE, int MR, int VECTORS>
MNV2_INLINE void add_depth(Accumulators<MR, VECTORS>& sums, const float* x, const float* weights)
{
    Vec w[VECTORS];
    MNV2_UNROLL
    for (int v = 0; v < VECTORS; ++v) w[v] = load(weights + v * lanes);
    MNV2_UNROLL
    for (int r = 0; r < MR; ++r) MNV2_UNROLL
    for (int v = 0; v < VECTORS; ++v) fma_broadcast(sums.at[r][v], w[v], x + r * X_STRIDE);
}

// sums += depths K, K + 1, ... up to unrolled_k times their weights.
template <int K, int MR, int VECTORS>
MNV2_INLINE void add_loaded_depths(Accumulators<MR, VECTORS>& sums, const Depths (&x)[MR], const float* weights)
{
    if constexpr (K < unrolled_k) {
        Vec w[VECTORS];
        MNV2_UNROLL
        for (int v = 0; v < VECTORS; ++v) w[v] = load(weights + v * lanes);
        MNV2_UNROLL
        for (int r = 0; r < MR; ++r) MNV2_UNROLL
        for (int v = 0; v < VECTORS; ++v) fma_depth<K>(sums.at[r][v], w[v], x[r]);
        add_loaded_depths<K + 1>(sums, x, weights + VECTORS * lanes);
    }
}

// What a tile fetches of the panel that comes next, in floats ahead of the present weights.
struct Ahead {
    int64_t begin, end;
};

// Lines that are fetched one after another: one at a time, the loop around them executes twice as much.
constexpr int64_t burst_lines = 4;
constexpr int64_t line_floats = 64 / sizeof(float), burst_floats = burst_lines * line_floats;

MNV2_INLINE void fetch(const Ahead& ahead, const float* weights)
{
    constexpr int to_read = 0, second_level = 2;
    for (int64_t i = ahead.begin; i < ahead.end; i += burst_floats) MNV2_UNROLL
    for (int64_t line = 0; line < burst_lines; ++line)
        __builtin_prefetch(weights + i + line * line_floats, to_read, second_level);
}

// Depths that a tile sums between two bursts.
constexpr int64_t fetched_together(int64_t depth)
{
    return fetches_each_pass ? unrolled_k : summed_together(depth);
}

// sums += `depth` depths of each pixel; x and weights move on by them.
template <int MR, int VECTORS>
MNV2_INLINE void add_depths(Accumulators<MR, VECTORS>& sums, int64_t depth, int64_t x_plane, const float*& x,
                            const float*& weights, const Ahead& ahead)
{
    constexpr int width = VECTORS * lanes;
    if constexpr (fetch_ahead != FetchAhead::never && !fetches_each_pass) fetch(ahead, weights);
    for (; depth >= lanes; depth -= lanes, x += x_plane)
        for (int k = 0; k < lanes; k += unrolled_k, weights += unrolled_k * width) {
            if constexpr (fetch_ahead != FetchAhead::never && fetches_each_pass) fetch(ahead, weights);
            Depths loaded[MR];
            MNV2_UNROLL
            for (int r = 0; r < MR; ++r) loaded[r] = depths(x + r * lanes + k);
            add_loaded_depths<0>(sums, loaded, weights);
        }
    for (int64_t k = 0; k < depth; ++k, weights += width) add_depth<lanes>(sums, x + k, weights);
}

// The second accumulators, in memory: they are touched every sum_depth depths only.
template <int MR, int VECTORS>
class SecondAccumulators {
public:
    // The compiler is not to see where at_ points, or it moves some of the array to registers that the tile needs.
    MNV2_INLINE SecondAccumulators() : at_(&memory_[0][0][0]) { MNV2_OPAQUE(at_); }

    // Moves sums here. first: nothing has been moved yet.
    MNV2_INLINE void take(Accumulators<MR, VECTORS>& sums, bool first)
    {
        if (!first) give(sums);
        float* to = at_;  // read once: for all that the compiler knows, a store changes at_
        MNV2_UNROLL
        for (int r = 0; r < MR; ++r) MNV2_UNROLL
        for (int v = 0; v < VECTORS; ++v) store(to + (r * VECTORS + v) * lanes, sums.at[r][v]);
        clear(sums);
    }

    // sums += what is here.
    MNV2_INLINE void give(Accumulators<MR, VECTORS>& sums) const
    {
        MNV2_UNROLL
        for (int r = 0; r < MR; ++r) MNV2_UNROLL
        for (int v = 0; v < VECTORS; ++v) sums.at[r][v] = add(sums.at[r][v], load(at_ + (r * VECTORS + v) * lanes));
    }

private:
    alignas(64) float memory_[MR][VECTORS][lanes];
    float* at_;
};

template <int MR, int VECTORS>
MNV2_INLINE void sum_long(Accumulators<MR, VECTORS>& sums, int64_t depth, int64_t x_plane, const float* x, const float* weights,
                          const Ahead& ahead)
{
    SecondAccumulators<MR, VECTORS> second;
    int64_t left = depth - sum_depth;
    add_depths(sums, sum_depth, x_plane, x, weights, ahead);
    second.take(sums, true);
    for (; left > sum_depth; left -= sum_depth) {
        add_depths(sums, sum_depth, x_plane, x, weights, ahead);
        second.take(sums, false);
    }
    add_depths(sums, left, x_plane, x, weights, ahead);
    second.give(sums);
}

// The sums of one tile over the whole depth. x_plane: floats from a vector of the input to the next.
template <bool IS_LONG, int MR, int VECTORS>
MNV2_INLINE void sum_tile(Accumulators<MR, VECTORS>& sums, int64_t depth, int64_t x_plane, const float* x, const float* weights,
                          const Ahead& ahead)
{
    clear(sums);
    if constexpr (IS_LONG)
        sum_long(sums, depth, x_plane, x, weights, ahead);
    else
        add_depths(sums, depth, x_plane, x, weights, ahead);
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
