// int8 by the instructions that every 64-bit ARM processor has: SMULL and SMLSL to 16 bits, SADALP to 32. Two products of
// signed bytes leave 16 bits where all are -128. So one of two activations is taken as x - 128, the other one as 127 - x, whose
// product is subtracted: with any weights that is -32640 to 32640. Sums start with the weights' sum times 128 and 127.
#pragma once

#include "cpu/int8/simd/cover-inl.h"
#include "cpu/int8/simd/neon/registers-inl.h"

namespace mnv2::cpu::int8::MNV2_ISA {
namespace {

constexpr Format format = format_of(Isa::neon);

MNV2_INLINE int8x16_t less_128(uint8x16_t x)
{
    return flipped(x, vdupq_n_u8(0x80));
}

MNV2_INLINE int8x16_t from_127(uint8x16_t x)
{
    return flipped(x, vdupq_n_u8(0x7f));
}

// Three pixels by eight channels: twenty-four sums, three pixels' bytes, weights and products.
template <class Tiles>
MNV2_INLINE void cover_row(int64_t columns, const Tiles& tiles)
{
    cover<3>(columns, tiles);
}

template <int MR>
struct Tile {
    int32x4_t at[MR][format.group];  // of one channel each, of which lanes share the depths

    MNV2_INLINE void start(const int32_t* starts)
    {
        MNV2_UNROLL
        for (int m = 0; m < MR; ++m) MNV2_UNROLL
        for (int c = 0; c < format.group; ++c) at[m][c] = vld1q_lane_s32(starts + c, vdupq_n_s32(0), 0);
    }

    MNV2_INLINE const int8_t* add_block(const uint8_t* x, int64_t width, int64_t steps, const int8_t* weights)
    {
        const uint8x16_t mask = vcombine_u8(vdup_n_u8(0x80), vdup_n_u8(0x7f));
        for (; steps > 0; --steps, x += register_bytes, weights += format.group * format.depths) {
            int8x16_t bytes[MR];
            MNV2_UNROLL
            for (int m = 0; m < MR; ++m) bytes[m] = flipped(vld1q_u8(x + m * width), mask);
            MNV2_UNROLL
            for (int c = 0; c < format.group; ++c) {
                const int8x16_t loaded = vld1q_s8(weights + c * register_bytes);
                int16x8_t products[MR];
                MNV2_UNROLL
                for (int m = 0; m < MR; ++m) products[m] = vmull_s8(vget_low_s8(bytes[m]), vget_low_s8(loaded));
                MNV2_UNROLL
                for (int m = 0; m < MR; ++m) products[m] = vmlsl_high_s8(products[m], bytes[m], loaded);
                MNV2_UNROLL
                for (int m = 0; m < MR; ++m) at[m][c] = vpadalq_s16(at[m][c], products[m]);
            }
        }
        return weights;
    }

    MNV2_INLINE int32x4_t four(int m, int j) const
    {
        const auto& of = at[m];
        return vpaddq_s32(vpaddq_s32(of[4 * j], of[4 * j + 1]), vpaddq_s32(of[4 * j + 2], of[4 * j + 3]));
    }
};

template <int MR>
struct StemTile {
    static constexpr int vectors = format.group / 2;
    int32x4_t at[MR][vectors];  // two lanes for each of two channels

    MNV2_INLINE void start(const int32_t* starts)
    {
        MNV2_UNROLL
        for (int m = 0; m < MR; ++m) MNV2_UNROLL
        for (int v = 0; v < vectors; ++v)
            at[m][v] = vreinterpretq_s32_u64(vmovl_u32(vreinterpret_u32_s32(vld1_s32(starts + 2 * v))));
    }

    MNV2_INLINE void add_word(const uint8_t* x, int64_t pitch, const int8_t* weights)
    {
        MNV2_UNROLL
        for (int m = 0; m < MR; ++m) {
            uint32_t word;
            __builtin_memcpy(&word, x + m * pitch, sizeof word);
            const int8x8_t words = vget_low_s8(less_128(vreinterpretq_u8_u32(vdupq_n_u32(word))));
            MNV2_UNROLL
            for (int v = 0; v < vectors; ++v) at[m][v] = vpadalq_s16(at[m][v], vmull_s8(words, vld1_s8(weights + 8 * v)));
        }
    }

    MNV2_INLINE int32x4_t four(int m, int j) const { return vpaddq_s32(at[m][2 * j], at[m][2 * j + 1]); }
};

// --- depthwise ---

// Sixteen channels of three rows, the second row as 127 - x.
struct Column {
    int8x16_t at[kernel_size];
};

struct Weights {
    int8x16_t at[kernel_size];
};

MNV2_INLINE Column load_column(const DepthwiseRun& run, int64_t at)
{
    return {{less_128(vld1q_u8(run.rows[0] + at)), from_127(vld1q_u8(run.rows[1] + at)), less_128(vld1q_u8(run.rows[2] + at))}};
}

MNV2_INLINE Weights load_weights(const int8_t* packed)
{
    const int8x16x4_t weights = vld4q_s8(packed);
    return {{weights.val[0], weights.val[1], weights.val[2]}};
}

MNV2_INLINE Four start(const int32_t* starts)
{
    return {{vld1q_s32(starts), vld1q_s32(starts + lanes), vld1q_s32(starts + 2 * lanes), vld1q_s32(starts + 3 * lanes)}};
}

MNV2_INLINE void add_products(Four& sums, int16x8_t low, int16x8_t high)
{
    sums.at[0] = vaddw_s16(sums.at[0], vget_low_s16(low));
    sums.at[1] = vaddw_high_s16(sums.at[1], low);
    sums.at[2] = vaddw_s16(sums.at[2], vget_low_s16(high));
    sums.at[3] = vaddw_high_s16(sums.at[3], high);
}

MNV2_INLINE void add(Four& sums, const Column& x, const Weights& weights)
{
    const int16x8_t low = vmull_s8(vget_low_s8(x.at[0]), vget_low_s8(weights.at[0]));
    const int16x8_t high = vmull_high_s8(x.at[0], weights.at[0]);
    add_products(sums, vmlsl_s8(low, vget_low_s8(x.at[1]), vget_low_s8(weights.at[1])),
                 vmlsl_high_s8(high, x.at[1], weights.at[1]));
    add_products(sums, vmull_s8(vget_low_s8(x.at[2]), vget_low_s8(weights.at[2])), vmull_high_s8(x.at[2], weights.at[2]));
}

}  // namespace
}  // namespace mnv2::cpu::int8::MNV2_ISA

#include "cpu/int8/simd/neon/depthwise-inl.h"
#include "cpu/int8/simd/neon/tiles-inl.h"
