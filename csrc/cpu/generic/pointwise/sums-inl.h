// The sums of a tile of ROWS pixels by VECTORS vectors of output channels, in float32.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "core/packing.h"
#include "core/sums.h"
#include "cpu/simd/convert-inl.h"
#include "cpu/simd/macros.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

// Depths that are summed without a second accumulator in between, at most.
constexpr int64_t summed_together(int64_t depth)
{
    return depth < long_depth ? depth : sum_depth;
}

// Few large tiles have too much to fetch for one burst: at 7 x 7 AVX-512 gains 5 % by it, 25 % by a part in each pass over
// unrolled_depths. For smaller tiles both are equal, and a burst executes less.
constexpr bool fetches_each_pass = registers >= 32;

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
    return (channels + lanes - 1) / lanes;
}

template <int ROWS, int VECTORS>
struct Accumulators {
    Vec at[ROWS][VECTORS];
};

template <int ROWS, int VECTORS>
MNV2_INLINE void clear(Accumulators<ROWS, VECTORS>& sums)
{
    MNV2_UNROLL
    for (int r = 0; r < ROWS; ++r) MNV2_UNROLL
    for (int v = 0; v < VECTORS; ++v) sums.at[r][v] = splat(0.0f);
}

// sums += one depth of each pixel times its weights; x points to the first pixel's depth, pixels lie x_step floats apart.
template <int X_STEP, int ROWS, int VECTORS>
MNV2_INLINE void add_depth(Accumulators<ROWS, VECTORS>& sums, const float* x, const float* weights)
{
    Vec w[VECTORS];
    MNV2_UNROLL
    for (int v = 0; v < VECTORS; ++v) w[v] = load(weights + v * lanes);
    MNV2_UNROLL
    for (int r = 0; r < ROWS; ++r) MNV2_UNROLL
    for (int v = 0; v < VECTORS; ++v) fma_broadcast(sums.at[r][v], w[v], x + r * X_STEP);
}

// sums += depths U, U + 1, ... of depths times their weights.
template <int U, int ROWS, int VECTORS>
MNV2_INLINE void add_loaded_depths(Accumulators<ROWS, VECTORS>& sums, const Depths (&x)[ROWS], const float* weights)
{
    if constexpr (U < unrolled_depths) {
        Vec w[VECTORS];
        MNV2_UNROLL
        for (int v = 0; v < VECTORS; ++v) w[v] = load(weights + v * lanes);
        MNV2_UNROLL
        for (int r = 0; r < ROWS; ++r) MNV2_UNROLL
        for (int v = 0; v < VECTORS; ++v) fma_depth<U>(sums.at[r][v], w[v], x[r]);
        add_loaded_depths<U + 1>(sums, x, weights + VECTORS * lanes);
    }
}

// A tile's share in fetching the panel that comes next: from so many floats ahead of the present weights to so many.
struct Ahead {
    int64_t begin, end;
};

// Lines that are fetched one after another: by one at a time the loop around them executes twice as much.
constexpr int64_t burst_lines = 4;
constexpr int64_t line_floats = 64 / sizeof(float), burst_floats = burst_lines * line_floats;

MNV2_INLINE void fetch(const Ahead& ahead, const float* weights)
{
    constexpr int to_read = 0, second_level = 2;
    for (int64_t i = ahead.begin; i < ahead.end; i += burst_floats) MNV2_UNROLL
    for (int64_t line = 0; line < burst_lines; ++line)
        __builtin_prefetch(weights + i + line * line_floats, to_read, second_level);
}

// The depths for which a share is fetched.
constexpr int64_t fetched_together(int64_t depth)
{
    return fetches_each_pass ? unrolled_depths : summed_together(depth);
}

// sums += so many depths of each pixel; x and weights move on by them.
template <int ROWS, int VECTORS>
MNV2_INLINE void add_depths(Accumulators<ROWS, VECTORS>& sums, int64_t depth, int64_t x_plane, const float*& x,
                            const float*& weights, const Ahead& ahead)
{
    constexpr int width = VECTORS * lanes;
    if constexpr (fetch_ahead != FetchAhead::never && !fetches_each_pass) fetch(ahead, weights);
    for (; depth >= lanes; depth -= lanes, x += x_plane)
        for (int k = 0; k < lanes; k += unrolled_depths, weights += unrolled_depths * width) {
            if constexpr (fetch_ahead != FetchAhead::never && fetches_each_pass) fetch(ahead, weights);
            Depths loaded[ROWS];
            MNV2_UNROLL
            for (int r = 0; r < ROWS; ++r) loaded[r] = depths(x + r * lanes + k);
            add_loaded_depths<0>(sums, loaded, weights);
        }
    for (int64_t k = 0; k < depth; ++k, weights += width) add_depth<lanes>(sums, x + k, weights);
}

// The second accumulators, in memory: they are touched every sum_depth depths only.
template <int ROWS, int VECTORS>
class SecondAccumulators {
public:
    // The compiler is not to see where `at` points, or it moves part of the array to registers that the tile needs.
    MNV2_INLINE SecondAccumulators() : at_(&memory_[0][0][0]) { MNV2_OPAQUE(at_); }

    // Moves sums here; first: there is nothing here yet.
    MNV2_INLINE void take(Accumulators<ROWS, VECTORS>& sums, bool first)
    {
        if (!first) give(sums);
        float* to = at_;  // read once: for all that the compiler knows, a store changes at_
        MNV2_UNROLL
        for (int r = 0; r < ROWS; ++r) MNV2_UNROLL
        for (int v = 0; v < VECTORS; ++v) store(to + (r * VECTORS + v) * lanes, sums.at[r][v]);
        clear(sums);
    }

    // sums += what is here.
    MNV2_INLINE void give(Accumulators<ROWS, VECTORS>& sums) const
    {
        MNV2_UNROLL
        for (int r = 0; r < ROWS; ++r) MNV2_UNROLL
        for (int v = 0; v < VECTORS; ++v) sums.at[r][v] = add(sums.at[r][v], load(at_ + (r * VECTORS + v) * lanes));
    }

private:
    alignas(64) float memory_[ROWS][VECTORS][lanes];
    float* at_;
};

template <int ROWS, int VECTORS>
MNV2_INLINE void sum_long(Accumulators<ROWS, VECTORS>& sums, int64_t depth, int64_t x_plane, const float* x,
                          const float* weights, const Ahead& ahead)
{
    SecondAccumulators<ROWS, VECTORS> second;
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

// The sums of one tile over the whole depth; x_plane floats lie between a block of the input and the next.
template <bool IS_LONG, int ROWS, int VECTORS>
MNV2_INLINE void sum_tile(Accumulators<ROWS, VECTORS>& sums, int64_t depth, int64_t x_plane, const float* x,
                          const float* weights, const Ahead& ahead)
{
    clear(sums);
    if constexpr (IS_LONG)
        sum_long(sums, depth, x_plane, x, weights, ahead);
    else
        add_depths(sums, depth, x_plane, x, weights, ahead);
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
