// int8 by SDOT, which multiplies signed bytes: activations are taken less 128, sums start with 128 times the weights' sum.
#pragma once

#include <arm_neon.h>

#include <cstdint>

#include "core/sizes.h"
#include "cpu/int8/kernels.h"
#include "cpu/int8/simd/cover-inl.h"
#include "cpu/simd/macros.h"

namespace mnv2::cpu::int8::MNV2_ISA {
namespace {

constexpr Format format = format_of(Isa::neon_dotprod);
constexpr int64_t group = format.group;
constexpr int64_t step_depths = format.depths;
constexpr int64_t step_weights = group * step_depths;
constexpr int lanes = 4;

MNV2_INLINE int8x16_t less_128(uint8x16_t x)
{
    return vreinterpretq_s8_u8(veorq_u8(x, vdupq_n_u8(0x80)));
}

const float* factors_of(const uint8_t* packed)
{
    return reinterpret_cast<const float*>(packed);
}

// rint(y) of eight channels, clamped to bytes.
MNV2_INLINE uint8x8_t to_bytes(float32x4_t first, float32x4_t second)
{
    const int16x4_t low = vqmovn_s32(vcvtnq_s32_f32(first)), high = vqmovn_s32(vcvtnq_s32_f32(second));
    return vqmovun_s16(vcombine_s16(low, high));
}

MNV2_INLINE float32x4_t scaled(int32x4_t sum, const float* m, const float* b)
{
    return vfmaq_f32(vld1q_f32(b), vcvtq_f32_s32(sum), vld1q_f32(m));
}

// --- pointwise and linear layers ---

// A tile of MR pixels by one group of channels.
template <int MR>
struct Sums {
    int32x4_t at[MR][2];
};

template <int MR>
MNV2_INLINE void start(Sums<MR>& sums, const float* starts)
{
    const auto* const from = reinterpret_cast<const int32_t*>(starts);
    MNV2_UNROLL
    for (int m = 0; m < MR; ++m) {
        sums.at[m][0] = vld1q_s32(from);
        sums.at[m][1] = vld1q_s32(from + lanes);
    }
}

template <int LANE, int MR>
MNV2_INLINE void add_step(Sums<MR>& sums, const int8x16_t (&x)[MR], const int8_t* weights)
{
    const int8x16_t first = vld1q_s8(weights), second = vld1q_s8(weights + 16);
    MNV2_UNROLL
    for (int m = 0; m < MR; ++m) {
        sums.at[m][0] = vdotq_laneq_s32(sums.at[m][0], first, x[m], LANE);
        sums.at[m][1] = vdotq_laneq_s32(sums.at[m][1], second, x[m], LANE);
    }
}

// A block's steps, four to a register of bytes; returns the weights behind them.
template <int MR>
MNV2_INLINE const int8_t* add_block(Sums<MR>& sums, const uint8_t* x, int64_t width, int64_t steps, const int8_t* weights)
{
    for (; steps > 0; steps -= 4, x += 16) {
        int8x16_t bytes[MR];
        MNV2_UNROLL
        for (int m = 0; m < MR; ++m) bytes[m] = less_128(vld1q_u8(x + m * width));
        add_step<0>(sums, bytes, weights);
        if (steps > 1) add_step<1>(sums, bytes, weights + step_weights);
        if (steps > 2) add_step<2>(sums, bytes, weights + 2 * step_weights);
        if (steps > 3) add_step<3>(sums, bytes, weights + 3 * step_weights);
        weights += (steps < 4 ? steps : 4) * step_weights;
    }
    return weights;
}

// first: the group's first channel.
template <int MR>
MNV2_INLINE void sum_pixels(Sums<MR>& sums, const Pixels& x, int64_t pixel, const uint8_t* panel, int64_t panel_width,
                            int64_t first)
{
    start(sums, factors_of(panel) + 3 * panel_width + first);
    const auto* weights = reinterpret_cast<const int8_t*>(panel + factor_bytes(3, panel_width, format)) +
                          first * divide_up(x.channels, step_depths) * step_depths;
    const uint8_t* block = x.data;
    for (int64_t left = x.channels; left > 0; left -= block_channels, block += x.plane) {
        const int64_t width = block_width(left, 0), depths = left < block_channels ? left : block_channels;
        weights = add_block(sums, block + pixel * width, width, divide_up(depths, step_depths), weights);
    }
}

template <int MR, bool HAS_SHORTCUT>
MNV2_INLINE void store_tile(const Sums<MR>& sums, const float* factors, int64_t width, uint8_t* y, const uint8_t* shortcut)
{
    MNV2_UNROLL
    for (int m = 0; m < MR; ++m) {
        float32x4_t first = scaled(sums.at[m][0], factors, factors + width);
        float32x4_t second = scaled(sums.at[m][1], factors + lanes, factors + width + lanes);
        if constexpr (HAS_SHORTCUT) {
            const float* const r = factors + 2 * width;
            const uint16x8_t words = vmovl_u8(vld1_u8(shortcut + m * width));
            first = vfmaq_f32(first, vcvtq_f32_u32(vmovl_u16(vget_low_u16(words))), vld1q_f32(r));
            second = vfmaq_f32(second, vcvtq_f32_u32(vmovl_high_u16(words)), vld1q_f32(r + lanes));
        }
        vst1_u8(y + m * width, to_bytes(first, second));
    }
}

template <int MR, bool HAS_SHORTCUT>
void panel_tiles(const PointwiseRun& run, int64_t column, int64_t tiles)
{
    for (int64_t row = 0; row < run.rows; ++row)
        for (int64_t first = 0; first < run.width; first += group) {
            int64_t at = row * run.y_pitch + column * run.width + first, pixel = run.first + row * run.columns + column;
            for (int64_t count = tiles; count > 0; --count, pixel += MR, at += MR * run.width) {
                Sums<MR> sums;
                sum_pixels(sums, run.x, pixel, run.panel, run.width, first);
                store_tile<MR, HAS_SHORTCUT>(sums, factors_of(run.panel) + first, run.width, run.y + at,
                                             HAS_SHORTCUT ? run.shortcut + at : nullptr);
            }
        }
}

constexpr int64_t max_mr = 7;  // fourteen sums, seven pixels' bytes, two weights; MobileNet's rows are multiples of seven

void pointwise(const PointwiseRun& run)
{
    cover<max_mr>(run.columns, [&]<int MR>(int64_t column, int64_t tiles) {
        run.shortcut ? panel_tiles<MR, true>(run, column, tiles) : panel_tiles<MR, false>(run, column, tiles);
    });
}

void linear(const LinearRun& run)
{
    for (int64_t first = 0; first < run.width; first += group) {
        Sums<1> sums;
        sum_pixels(sums, run.x, run.pixel, run.panel, run.width, first);
        const float* const m = factors_of(run.panel) + first;
        vst1q_f32(run.y + first, scaled(sums.at[0][0], m, m + run.width));
        vst1q_f32(run.y + first + lanes, scaled(sums.at[0][1], m + lanes, m + run.width + lanes));
    }
}

// --- stem ---

MNV2_INLINE int8x16_t broadcast_word(const uint8_t* x)
{
    uint32_t word;
    __builtin_memcpy(&word, x, sizeof word);
    return less_128(vreinterpretq_u8_u32(vdupq_n_u32(word)));
}

template <int MR>
void stem_tiles(const StemRun& run, int64_t column, int64_t tiles)
{
    const int64_t words = kernel_size * run.words, pitch = run.stride * run.words * word_bytes;
    const auto* const panel_weights = reinterpret_cast<const int8_t*>(run.panel + factor_bytes(3, run.width, format));
    for (int64_t first = 0; first < run.width; first += group)
        for (int64_t done = column; done < column + tiles * MR; done += MR) {
            Sums<MR> sums;
            start(sums, factors_of(run.panel) + 3 * run.width + first);
            const int8_t* weights = panel_weights + first * kernel_size * words * word_bytes;
            for (int64_t ky = 0; ky < kernel_size; ++ky) {
                const uint8_t* x = run.rows[ky] + done * pitch;
                for (int64_t word = 0; word < words; ++word, x += word_bytes, weights += step_weights) {
                    int8x16_t bytes[MR];
                    MNV2_UNROLL
                    for (int m = 0; m < MR; ++m) bytes[m] = broadcast_word(x + m * pitch);
                    add_step<0>(sums, bytes, weights);
                }
            }
            store_tile<MR, false>(sums, factors_of(run.panel) + first, run.width, run.y + done * run.width + first, nullptr);
        }
}

void stem(const StemRun& run)
{
    cover<max_mr>(run.columns, [&]<int MR>(int64_t column, int64_t tiles) { stem_tiles<MR>(run, column, tiles); });
}

// --- depthwise layers and the pool: sixteen channels at a time ---

constexpr int64_t register_bytes = 16;

struct Four {
    int32x4_t at[4];
};

// Bytes (r0, r1, r2, r2) of a column's sixteen channels; the fourth weight is 0.
struct Column {
    int8x16_t at[4];
};

MNV2_INLINE Column load_column(const DepthwiseRun& run, int64_t at)
{
    const uint8x16_t last = vld1q_u8(run.rows[2] + at), first = vld1q_u8(run.rows[0] + at), second = vld1q_u8(run.rows[1] + at);
    const auto words = [](uint8x16_t bytes) __attribute__((always_inline)) { return vreinterpretq_u16_u8(bytes); };
    const auto bytes = [](uint16x8_t zipped) __attribute__((always_inline)) { return less_128(vreinterpretq_u8_u16(zipped)); };
    const uint16x8_t low = words(vzip1q_u8(first, second)), high = words(vzip2q_u8(first, second));
    const uint16x8_t low_last = words(vzip1q_u8(last, last)), high_last = words(vzip2q_u8(last, last));
    return {{bytes(vzip1q_u16(low, low_last)), bytes(vzip2q_u16(low, low_last)), bytes(vzip1q_u16(high, high_last)),
             bytes(vzip2q_u16(high, high_last))}};
}

MNV2_INLINE void add(Four& sums, const Column& x, const Column& weights)
{
    MNV2_UNROLL
    for (int j = 0; j < 4; ++j) sums.at[j] = vdotq_s32(sums.at[j], x.at[j], weights.at[j]);
}

// A column is interleaved once and serves three results, with stride 2 one or two.
template <int STRIDE>
void depthwise_channels(const DepthwiseRun& run, int64_t first)
{
    const float* const m = factors_of(run.packed) + first;
    const auto* const starts = reinterpret_cast<const int32_t*>(m + 2 * run.width);
    const auto* const packed = reinterpret_cast<const int8_t*>(run.packed + factor_bytes(2, run.width, format)) + 4 * first;
    Column weights[kernel_size];
    MNV2_UNROLL
    for (int64_t kx = 0; kx < kernel_size; ++kx) MNV2_UNROLL
    for (int64_t j = 0; j < 4; ++j) weights[kx].at[j] = vld1q_s8(packed + 4 * kx * run.width + j * register_bytes);
    const auto load_at = [&](int64_t column)
                             __attribute__((always_inline)) { return load_column(run, column * run.width + first); };
    const auto started = [&](const Column& x) __attribute__((always_inline)) {
        Four sums;
        MNV2_UNROLL
        for (int j = 0; j < 4; ++j) sums.at[j] = vld1q_s32(starts + lanes * j);
        add(sums, x, weights[0]);
        return sums;
    };
    const auto finish = [&](const Four& sums, int64_t column) __attribute__((always_inline)) {
        const auto y = [&](int j) __attribute__((always_inline)) {
            return scaled(sums.at[j], m + lanes * j, m + run.width + lanes * j);
        };
        vst1q_u8(run.y + column * run.width + first, vcombine_u8(to_bytes(y(0), y(1)), to_bytes(y(2), y(3))));
    };
    Four sums = started(load_at(0));
    if constexpr (STRIDE == 2) {
        for (int64_t column = 0; column < run.columns; ++column) {
            add(sums, load_at(2 * column + 1), weights[1]);
            const Column x = load_at(2 * column + 2);
            add(sums, x, weights[2]);
            finish(sums, column);
            sums = started(x);
        }
        return;
    }
    Column x = load_at(1);
    add(sums, x, weights[1]);
    Four next = started(x);
    for (int64_t column = 0; column < run.columns; ++column) {
        x = load_at(column + 2);
        add(sums, x, weights[2]);
        finish(sums, column);
        sums = next;
        add(sums, x, weights[1]);
        next = started(x);
    }
}

void depthwise(const DepthwiseRun& run)
{
    for (int64_t first = 0; first < run.width; first += register_bytes)
        run.stride == 1 ? depthwise_channels<1>(run, first) : depthwise_channels<2>(run, first);
}

MNV2_INLINE float32x4_t pooled(uint32x4_t sum, float factor)
{
    return vminq_f32(vmaxq_f32(vmulq_n_f32(vcvtq_f32_u32(sum), factor), vdupq_n_f32(0.0f)), vdupq_n_f32(255.0f));
}

void pool(const PoolRun& run)
{
    for (int64_t first = 0; first < run.width; first += 8) {
        uint32x4_t low = vdupq_n_u32(0), high = vdupq_n_u32(0);
        for (int64_t pixel = 0; pixel < run.pixels; ++pixel) {
            const uint16x8_t words = vmovl_u8(vld1_u8(run.x + pixel * run.width + first));
            low = vaddw_u16(low, vget_low_u16(words));
            high = vaddw_high_u16(high, words);
        }
        vst1_u8(run.y + first, to_bytes(pooled(low, run.factor), pooled(high, run.factor)));
    }
}

}  // namespace
}  // namespace mnv2::cpu::int8::MNV2_ISA
