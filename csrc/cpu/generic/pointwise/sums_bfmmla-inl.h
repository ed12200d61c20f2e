// The sums of a tile by BFMMLA: an instruction adds the products of two pixels by two channels over four depths, which lie
// side by side in blocked activations as they are. A file of its own: its accumulators are 2 x 2, not vectors of channels.
#pragma once

#include <arm_neon.h>

#include <cstdint>

#include "cpu/generic/pointwise/sums-inl.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

// Four depths of two pixels, or of one pixel, where it is the last one.
template <bool IS_ONE>
MNV2_INLINE bfloat16x8_t load_pixels(const BFloat16* x)
{
    if constexpr (IS_ONE) return vreinterpretq_bf16_u16(vcombine_u16(vld1_u16(&x->bits), vdup_n_u16(0)));
    return vreinterpretq_bf16_u16(vld1q_u16(&x->bits));
}

template <int MR, int PAIR>
MNV2_INLINE void load_pairs(bfloat16x8_t (&pairs)[(MR + 1) / 2], const BFloat16* x)
{
    if constexpr (2 * PAIR < MR) {
        pairs[PAIR] = load_pixels<2 * PAIR + 1 == MR>(x + 2 * PAIR * lanes);
        load_pairs<MR, PAIR + 1>(pairs, x);
    }
}

template <int PAIRS, int COLUMNS>
struct Squares {
    float32x4_t at[PAIRS][COLUMNS];
};

// squares += four depths of MR pixels, or the first `depth`: behind these, weights are zero, but pixels may hold anything.
template <bool IS_WHOLE, int MR, int PAIRS, int COLUMNS>
MNV2_INLINE void add_vector(Squares<PAIRS, COLUMNS>& squares, int64_t depth, const BFloat16* x, const BFloat16* weights)
{
    constexpr uint16_t positions[] = {0, 1, 2, 3, 0, 1, 2, 3};
    bfloat16x8_t pixels[PAIRS];
    load_pairs<MR, 0>(pixels, x);
    if constexpr (!IS_WHOLE) {
        const uint16x8_t is_used = vcltq_u16(vld1q_u16(positions), vdupq_n_u16(static_cast<uint16_t>(depth)));
        MNV2_UNROLL
        for (int p = 0; p < PAIRS; ++p)
            pixels[p] = vreinterpretq_bf16_u16(vandq_u16(vreinterpretq_u16_bf16(pixels[p]), is_used));
    }
    MNV2_UNROLL
    for (int c = 0; c < COLUMNS; ++c) {
        const bfloat16x8_t w = load_pixels<false>(weights + c * 2 * lanes);
        // Tied by hand: by intrinsics GCC copies accumulators.
        MNV2_UNROLL
        for (int p = 0; p < PAIRS; ++p) __asm__("bfmmla %0.4s, %1.8h, %2.8h" : "+w"(squares.at[p][c]) : "w"(pixels[p]), "w"(w));
    }
}

// The error of float32 sums is far below bfloat16's own, so long sums need no second accumulator.
template <bool IS_LONG, int MR, int VECTORS>
MNV2_INLINE void sum_tile(Accumulators<MR, VECTORS>& sums, int64_t depth, int64_t x_plane, const BFloat16* x,
                          const float* packed, const Ahead&)
{
    constexpr int pairs = (MR + 1) / 2, columns = VECTORS * lanes / 2;
    Squares<pairs, columns> squares;
    MNV2_UNROLL
    for (int p = 0; p < pairs; ++p) MNV2_UNROLL
    for (int c = 0; c < columns; ++c) squares.at[p][c] = splat(0.0f);
    const auto* weights = reinterpret_cast<const BFloat16*>(packed);
    for (; depth >= lanes; depth -= lanes, x += x_plane, weights += columns * 2 * lanes)
        add_vector<true, MR>(squares, lanes, x, weights);
    if (depth > 0) add_vector<false, MR>(squares, depth, x, weights);
    // A square is two channels of one pixel, then of the next.
    MNV2_UNROLL
    for (int r = 0; r < MR; ++r) MNV2_UNROLL
    for (int v = 0; v < VECTORS; ++v) {
        const float64x2_t first = vreinterpretq_f64_f32(squares.at[r / 2][2 * v]);
        const float64x2_t second = vreinterpretq_f64_f32(squares.at[r / 2][2 * v + 1]);
        sums.at[r][v] = vreinterpretq_f32_f64(r % 2 ? vzip2q_f64(first, second) : vzip1q_f64(first, second));
    }
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
