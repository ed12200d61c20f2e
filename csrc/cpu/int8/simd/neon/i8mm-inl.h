// int8 by USMMLA, which adds the products of two pixels by two channels over eight depths, and by dot products of unsigned with
// signed bytes, which the same processors have.
#pragma once

#include "cpu/int8/simd/cover-inl.h"
#include "cpu/int8/simd/neon/columns-inl.h"

namespace mnv2::cpu::int8::MNV2_ISA {
namespace {

constexpr Format format = format_of(Isa::neon_i8mm);
constexpr int channel_pairs = format.group / 2;
constexpr int64_t step_weights = format.group * format.depths;

// Tiles of whole pairs of pixels; where their number is odd, the last tile's last pair is half a one.
template <class Tiles>
MNV2_INLINE void cover_row(int64_t columns, const Tiles& tiles)
{
    constexpr int max_pairs = 2;  // by sixteen channels; of three, GCC moves the sums about
    const int64_t all_pairs = divide_up(columns, 2);
    cover<max_pairs>(all_pairs, [&]<int PAIRS>(int64_t pair, int64_t count) {
        const int64_t halves = columns % 2 && count > 0 && pair + count * PAIRS == all_pairs ? 1 : 0;
        tiles.template operator()<2 * PAIRS>(2 * pair, count - halves);
        if (halves) tiles.template operator()<2 * PAIRS - 1>(2 * (pair + (count - 1) * PAIRS), 1);
    });
}

template <int MR>
struct Tile {
    static constexpr int pairs = (MR + 1) / 2;
    int32x4_t at[pairs][channel_pairs];  // two channels of the pair's first pixel, then of its second one

    MNV2_INLINE void start(const int32_t*)
    {
        MNV2_UNROLL
        for (int p = 0; p < pairs; ++p) MNV2_UNROLL
        for (int c = 0; c < channel_pairs; ++c) at[p][c] = vdupq_n_s32(0);
    }

    // Half a pair is the same pixel twice.
    static MNV2_INLINE const uint8_t* second_of(int pair, const uint8_t* x, int64_t width)
    {
        return x + (2 * pair + 1 < MR ? 2 * pair + 1 : 2 * pair) * width;
    }

    MNV2_INLINE void add_step(const uint8x16_t (&x)[pairs], const int8_t* weights)
    {
        MNV2_UNROLL
        for (int c = 0; c < channel_pairs; ++c) {
            const int8x16_t loaded = vld1q_s8(weights + register_bytes * c);
            MNV2_UNROLL
            for (int p = 0; p < pairs; ++p) at[p][c] = vusmmlaq_s32(at[p][c], x[p], loaded);
        }
    }

    // Two steps to a register of bytes.
    MNV2_INLINE const int8_t* add_block(const uint8_t* x, int64_t width, int64_t steps, const int8_t* weights)
    {
        for (; steps > 1; steps -= 2, x += register_bytes, weights += 2 * step_weights) {
            uint8x16_t low[pairs], high[pairs];
            MNV2_UNROLL
            for (int p = 0; p < pairs; ++p) {
                const uint64x2_t first = vreinterpretq_u64_u8(vld1q_u8(x + 2 * p * width));
                const uint64x2_t second = vreinterpretq_u64_u8(vld1q_u8(second_of(p, x, width)));
                low[p] = vreinterpretq_u8_u64(vtrn1q_u64(first, second));
                high[p] = vreinterpretq_u8_u64(vtrn2q_u64(first, second));
            }
            add_step(low, weights);
            add_step(high, weights + step_weights);
        }
        if (steps == 0) return weights;
        uint8x16_t last[pairs];
        MNV2_UNROLL
        for (int p = 0; p < pairs; ++p) last[p] = vcombine_u8(vld1_u8(x + 2 * p * width), vld1_u8(second_of(p, x, width)));
        add_step(last, weights);
        return weights + step_weights;
    }

    MNV2_INLINE int32x4_t four(int m, int j) const
    {
        const int64x2_t first = vreinterpretq_s64_s32(at[m / 2][2 * j]), second = vreinterpretq_s64_s32(at[m / 2][2 * j + 1]);
        return vreinterpretq_s32_s64(m % 2 ? vtrn2q_s64(first, second) : vtrn1q_s64(first, second));
    }
};

template <int MR>
struct StemTile {
    static constexpr int vectors = format.group / lanes;
    int32x4_t at[MR][vectors];

    MNV2_INLINE void start(const int32_t*)
    {
        MNV2_UNROLL
        for (int m = 0; m < MR; ++m) MNV2_UNROLL
        for (int v = 0; v < vectors; ++v) at[m][v] = vdupq_n_s32(0);
    }

    MNV2_INLINE void add_word(const uint8_t* x, int64_t pitch, const int8_t* weights)
    {
        int8x16_t loaded[vectors];
        MNV2_UNROLL
        for (int v = 0; v < vectors; ++v) loaded[v] = vld1q_s8(weights + register_bytes * v);
        MNV2_UNROLL
        for (int m = 0; m < MR; ++m) {
            uint32_t word;
            __builtin_memcpy(&word, x + m * pitch, sizeof word);
            const uint8x16_t words = vreinterpretq_u8_u32(vdupq_n_u32(word));
            MNV2_UNROLL
            for (int v = 0; v < vectors; ++v) at[m][v] = vusdotq_s32(at[m][v], words, loaded[v]);
        }
    }

    MNV2_INLINE int32x4_t four(int m, int j) const { return at[m][j]; }
};

// --- depthwise ---

using Column = Bytes;

MNV2_INLINE Column load_column(const DepthwiseRun& run, int64_t at)
{
    return load_bytes(run, at);
}

MNV2_INLINE Four start(const int32_t*)
{
    const int32x4_t zero = vdupq_n_s32(0);
    return {{zero, zero, zero, zero}};
}

MNV2_INLINE void add(Four& sums, const Column& x, const Weights& weights)
{
    MNV2_UNROLL
    for (int j = 0; j < 4; ++j) sums.at[j] = vusdotq_s32(sums.at[j], x.at[j], weights.at[j]);
}

}  // namespace
}  // namespace mnv2::cpu::int8::MNV2_ISA

#include "cpu/int8/simd/neon/depthwise-inl.h"
#include "cpu/int8/simd/neon/tiles-inl.h"
