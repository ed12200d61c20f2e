// Four floats in a register of Armv8.0's Advanced SIMD, thirty-two registers: what neon and neon_bf16 have in common.
#pragma once

#include <arm_neon.h>

#include <cstdint>

#include "core/half-inl.h"
#include "cpu/isa/fetch_ahead.h"
#include "cpu/simd/macros.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

using Vec = float32x4_t;
constexpr int register_count = 32;
constexpr int lanes = 4;
constexpr int panel_vectors = 2;
// A load brings four depths of a pixel; a multiply-add takes one of these lanes.
constexpr int unrolled_k = 4;
// FMLA has no other form.
constexpr bool fma_overwrites_addend = true;
constexpr FetchAhead fetch_ahead = FetchAhead::never;

MNV2_INLINE Vec load(const float* p) { return vld1q_f32(p); }
MNV2_INLINE void store(float* p, Vec v) { vst1q_f32(p, v); }
MNV2_INLINE void store_first(float* p, Vec v, int64_t count)
{
    if (count & 4) return store(p, v);
    float32x2_t rest = vget_low_f32(v);
    if (count & 2) {
        vst1_f32(p, rest);
        rest = vget_high_f32(v);
        p += 2;
    }
    if (count & 1) vst1_lane_f32(p, rest, 0);
}
MNV2_INLINE Vec splat(float x) { return vdupq_n_f32(x); }
MNV2_INLINE Vec add(Vec a, Vec b) { return vaddq_f32(a, b); }
MNV2_INLINE Vec mul(Vec a, Vec b) { return vmulq_f32(a, b); }
MNV2_INLINE Vec fma(Vec a, Vec b, Vec c) { return vfmaq_f32(c, a, b); }
MNV2_INLINE Vec fma_once(Vec a, Vec b, Vec c) { return fma(a, b, c); }
MNV2_INLINE Vec div(Vec a, Vec b) { return vdivq_f32(a, b); }
MNV2_INLINE Vec times_power_of_two(Vec a, Vec n)
{
    const int32x4_t exponent = vshlq_n_s32(vreinterpretq_s32_f32(n), exponent_shift);
    return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(a), exponent));
}
// Both instructions return NaN for NaN.
MNV2_INLINE Vec clamp(Vec x, Vec low, Vec high) { return vminq_f32(vmaxq_f32(x, low), high); }

using Depths = Vec;
MNV2_INLINE Depths depths(const float* x) { return load(x); }
// acc += w * x[K]. By intrinsics GCC copies accumulators at the end of a loop: 10 % on Neoverse N1.
template <int K>
MNV2_INLINE void fma_depth(Vec& acc, Vec w, Depths x)
{
    __asm__("fmla %0.4s, %1.4s, %2.s[%3]" : "+w"(acc) : "w"(w), "w"(x), "i"(K));
}
// acc += w * x[0]
MNV2_INLINE void fma_broadcast(Vec& acc, Vec w, const float* x)
{
    __asm__("fmla %0.4s, %1.4s, %2.s[0]" : "+w"(acc) : "w"(w), "w"(*x));
}

MNV2_INLINE Vec widen(const Half* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(&p->bits))); }
MNV2_INLINE Vec widen(const BFloat16* p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(&p->bits), 16)); }
MNV2_INLINE void narrow(Half* p, Vec v) { vst1_u16(&p->bits, vreinterpret_u16_f16(vcvt_f16_f32(v))); }
MNV2_INLINE void narrow(BFloat16* p, Vec v)
{
#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
    vst1_u16(&p->bits, vreinterpret_u16_bf16(vcvt_bf16_f32(v)));
#else
    const uint32x4_t bits = vreinterpretq_u32_f32(v), high = vshrq_n_u32(bits, 16);
    const uint32x4_t odd = vandq_u32(high, vdupq_n_u32(1));
    const uint32x4_t rounded = vshrq_n_u32(vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff))), 16);
    const uint32x4_t quiet = vorrq_u32(high, vdupq_n_u32(0x40));
    vst1_u16(&p->bits, vmovn_u32(vbslq_u32(vceqq_f32(v, v), rounded, quiet)));
#endif
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA

#include "cpu/simd/one_register-inl.h"
