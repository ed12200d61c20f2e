// int8 by SDOT, which multiplies signed bytes: activations are taken less 128, sums start with 128 times the weights' sum.
#pragma once

#include "cpu/int8/simd/cover-inl.h"
#include "cpu/int8/simd/neon/columns-inl.h"

namespace mnv2::cpu::int8::MNV2_ISA {
namespace {

constexpr Format format = format_of(Isa::neon_dotprod);
constexpr int vectors = format.group / lanes;

MNV2_INLINE int8x16_t less_128(uint8x16_t x)
{
    return flipped(x, vdupq_n_u8(0x80));
}

// Five pixels by sixteen channels: twenty sums, five pixels' bytes, four weights. What a pixel's bytes cost beside products,
// the subtraction of 128, is shared by more channels than in a tile of eight, and no wider tile fits the registers.
template <class Tiles>
MNV2_INLINE void cover_row(int64_t columns, const Tiles& tiles)
{
    cover<5>(columns, tiles);
}

template <int MR>
struct Tile {
    int32x4_t at[MR][vectors];

    MNV2_INLINE void start(const int32_t* starts)
    {
        MNV2_UNROLL
        for (int m = 0; m < MR; ++m) MNV2_UNROLL
        for (int v = 0; v < vectors; ++v) at[m][v] = vld1q_s32(starts + lanes * v);
    }

    template <int LANE>
    MNV2_INLINE void add_step(const int8x16_t (&x)[MR], const int8_t* weights)
    {
        int8x16_t loaded[vectors];
        MNV2_UNROLL
        for (int v = 0; v < vectors; ++v) loaded[v] = vld1q_s8(weights + register_bytes * v);
        MNV2_UNROLL
        for (int m = 0; m < MR; ++m) MNV2_UNROLL
        for (int v = 0; v < vectors; ++v) at[m][v] = vdotq_laneq_s32(at[m][v], loaded[v], x[m], LANE);
    }

    // Four steps to a register of bytes.
    MNV2_INLINE const int8_t* add_block(const uint8_t* x, int64_t width, int64_t steps, const int8_t* weights)
    {
        constexpr int64_t step_weights = format.group * format.depths;
        for (; steps > 0; steps -= 4, x += register_bytes) {
            int8x16_t bytes[MR];
            MNV2_UNROLL
            for (int m = 0; m < MR; ++m) bytes[m] = less_128(vld1q_u8(x + m * width));
            add_step<0>(bytes, weights);
            if (steps > 1) add_step<1>(bytes, weights + step_weights);
            if (steps > 2) add_step<2>(bytes, weights + 2 * step_weights);
            if (steps > 3) add_step<3>(bytes, weights + 3 * step_weights);
            weights += (steps < 4 ? steps : 4) * step_weights;
        }
        return weights;
    }

    MNV2_INLINE int32x4_t four(int m, int j) const { return at[m][j]; }
};

template <int MR>
struct StemTile : Tile<MR> {
    MNV2_INLINE void add_word(const uint8_t* x, int64_t pitch, const int8_t* weights)
    {
        int8x16_t words[MR];
        MNV2_UNROLL
        for (int m = 0; m < MR; ++m) {
            uint32_t word;
            __builtin_memcpy(&word, x + m * pitch, sizeof word);
            words[m] = less_128(vreinterpretq_u8_u32(vdupq_n_u32(word)));
        }
        this->template add_step<0>(words, weights);
    }
};

// --- depthwise ---

struct Column {
    int8x16_t at[4];
};

MNV2_INLINE Column load_column(const DepthwiseRun& run, int64_t at)
{
    const Bytes bytes = load_bytes(run, at);
    return {{less_128(bytes.at[0]), less_128(bytes.at[1]), less_128(bytes.at[2]), less_128(bytes.at[3])}};
}

MNV2_INLINE Four start(const int32_t* starts)
{
    return {{vld1q_s32(starts), vld1q_s32(starts + lanes), vld1q_s32(starts + 2 * lanes), vld1q_s32(starts + 3 * lanes)}};
}

MNV2_INLINE void add(Four& sums, const Column& x, const Weights& weights)
{
    MNV2_UNROLL
    for (int j = 0; j < 4; ++j) sums.at[j] = vdotq_s32(sums.at[j], x.at[j], weights.at[j]);
}

}  // namespace
}  // namespace mnv2::cpu::int8::MNV2_ISA

#include "cpu/int8/simd/neon/depthwise-inl.h"
#include "cpu/int8/simd/neon/tiles-inl.h"
