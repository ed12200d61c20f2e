// float16 tensors on processors that multiply vectors of them. A vector is eight channels, in pointwise layers eight halves in
// a register; elsewhere the arithmetic is float32, in two registers a vector.
#pragma once

#include <arm_neon.h>

#include <cstdint>

#include "core/half-inl.h"
#include "cpu/isa/fetch_ahead.h"
#include "cpu/simd/macros.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

using Stored = Half;  // the type of blocked activations
constexpr int register_count = 32;
constexpr int lanes = 8;
constexpr int panel_vectors = 2;
// One and two vectors wide, tiles have 8 and 16 accumulators of eight halves, the weights, and a vector of depths for each
// pixel in one of the first sixteen registers (with more pixels GCC copies them).
constexpr int max_mr[] = {8, 8};
constexpr int unrolled_k = 4;
constexpr bool fma_overwrites_addend = true;  // the only form of FMLA
constexpr FetchAhead fetch_ahead = FetchAhead::never;

struct Vec {
    float32x4_t low, high;
};

MNV2_INLINE Vec load(const float* p) { return {vld1q_f32(p), vld1q_f32(p + 4)}; }
MNV2_INLINE void store(float* p, Vec v)
{
    vst1q_f32(p, v.low);
    vst1q_f32(p + 4, v.high);
}
MNV2_INLINE void store_first(float* p, Vec v, int64_t count)
{
    float all[lanes];
    store(all, v);
    for (int64_t i = 0; i < count; ++i) p[i] = all[i];
}
MNV2_INLINE Vec splat(float x) { return {vdupq_n_f32(x), vdupq_n_f32(x)}; }
MNV2_INLINE Vec add(Vec a, Vec b) { return {vaddq_f32(a.low, b.low), vaddq_f32(a.high, b.high)}; }
MNV2_INLINE Vec mul(Vec a, Vec b) { return {vmulq_f32(a.low, b.low), vmulq_f32(a.high, b.high)}; }
MNV2_INLINE Vec fma(Vec a, Vec b, Vec c) { return {vfmaq_f32(c.low, a.low, b.low), vfmaq_f32(c.high, a.high, b.high)}; }
// Both instructions return NaN for NaN.
MNV2_INLINE Vec clamp(Vec x, Vec low, Vec high)
{
    return {vminq_f32(vmaxq_f32(x.low, low.low), high.low), vminq_f32(vmaxq_f32(x.high, low.high), high.high)};
}

// The operations above on one of a vector's two registers.
using Register = float32x4_t;
constexpr int vector_registers = 2;

MNV2_INLINE Register load_register(const float* p) { return vld1q_f32(p); }
MNV2_INLINE Register splat_register(float x) { return vdupq_n_f32(x); }
MNV2_INLINE void store_register(float* p, Register v) { vst1q_f32(p, v); }
MNV2_INLINE Register add(Register a, Register b) { return vaddq_f32(a, b); }
MNV2_INLINE Register mul(Register a, Register b) { return vmulq_f32(a, b); }
MNV2_INLINE Register fma(Register a, Register b, Register c) { return vfmaq_f32(c, a, b); }
MNV2_INLINE Register fma_once(Register a, Register b, Register c) { return fma(a, b, c); }
MNV2_INLINE Register div(Register a, Register b) { return vdivq_f32(a, b); }
MNV2_INLINE Register times_power_of_two(Register a, Register n)
{
    const int32x4_t exponent = vshlq_n_s32(vreinterpretq_s32_f32(n), exponent_shift);
    return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(a), exponent));
}
MNV2_INLINE Register clamp(Register x, Register low, Register high) { return vminq_f32(vmaxq_f32(x, low), high); }
MNV2_INLINE void narrow(Half* p, Register v) { vst1_u16(&p->bits, vreinterpret_u16_f16(vcvt_f16_f32(v))); }

// acc += w * x[0]
MNV2_INLINE void fma_broadcast(Vec& acc, Vec w, const float* x)
{
    __asm__("fmla %0.4s, %1.4s, %2.s[0]" : "+w"(acc.low) : "w"(w.low), "w"(*x));
    __asm__("fmla %0.4s, %1.4s, %2.s[0]" : "+w"(acc.high) : "w"(w.high), "w"(*x));
}
MNV2_INLINE Vec widen(float16x8_t v) { return {vcvt_f32_f16(vget_low_f16(v)), vcvt_high_f32_f16(v)}; }
MNV2_INLINE Vec widen(const Half* p) { return widen(vreinterpretq_f16_u16(vld1q_u16(&p->bits))); }
MNV2_INLINE void narrow(Half* p, Vec v)
{
    vst1q_u16(&p->bits, vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(v.low), v.high)));
}
// Images of bfloat16 never reach this instruction set.
MNV2_INLINE Vec widen(const BFloat16* p)
{
    float all[lanes];
    for (int i = 0; i < lanes; ++i) all[i] = to_float(p[i]);
    return load(all);
}
MNV2_INLINE void narrow(BFloat16* p, Vec v)
{
    float all[lanes];
    store(all, v);
    for (int i = 0; i < lanes; ++i) from_float(all[i], p + i);
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA

#include "cpu/simd/depths_in_memory-inl.h"
