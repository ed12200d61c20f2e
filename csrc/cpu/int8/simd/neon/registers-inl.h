// What int8 kernels of every NEON instruction set share: what becomes of sums, and the pool.
#pragma once

#include <arm_neon.h>

#include <cstdint>

#include "cpu/int8/kernels.h"
#include "cpu/simd/macros.h"

namespace mnv2::cpu::int8::MNV2_ISA {
namespace {

constexpr int lanes = 4;
constexpr int64_t register_bytes = 16;

// Sums of sixteen channels.
struct Four {
    int32x4_t at[4];
};

// Bytes as signed ones: x - 128 where mask is 0x80, 127 - x where it is 0x7f.
MNV2_INLINE int8x16_t flipped(uint8x16_t x, uint8x16_t mask)
{
    return vreinterpretq_s8_u8(veorq_u8(x, mask));
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
