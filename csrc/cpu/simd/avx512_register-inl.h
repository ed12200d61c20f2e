// What one AVX-512 register of sixteen floats does. A vector has one or two of them, by the instruction set.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "core/half-inl.h"
#include "cpu/simd/macros.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

using Register = __m512;
constexpr int register_lanes = 16;
constexpr int register_count = 32;
constexpr bool fma_overwrites_addend = false;

MNV2_INLINE Register load_register(const float* p) { return _mm512_loadu_ps(p); }
MNV2_INLINE void store(float* p, Register v) { _mm512_storeu_ps(p, v); }
MNV2_INLINE void store_first(float* p, Register v, int64_t count)
{
    _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << count) - 1u), v);
}
MNV2_INLINE void store_register(float* p, Register v) { store(p, v); }
MNV2_INLINE Register splat_register(float x) { return _mm512_set1_ps(x); }
MNV2_INLINE Register add(Register a, Register b) { return _mm512_add_ps(a, b); }
MNV2_INLINE Register mul(Register a, Register b) { return _mm512_mul_ps(a, b); }
MNV2_INLINE Register fma(Register a, Register b, Register c) { return _mm512_fmadd_ps(a, b, c); }
MNV2_INLINE Register fma_once(Register a, Register b, Register c) { return fma(a, b, c); }
MNV2_INLINE Register div(Register a, Register b) { return _mm512_div_ps(a, b); }
MNV2_INLINE Register times_power_of_two(Register a, Register n)
{
    const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(n), exponent_shift);
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), exponent));
}
MNV2_INLINE Register clamp(Register x, Register low, Register high) { return _mm512_min_ps(high, _mm512_max_ps(low, x)); }
// acc += w * x[0]. Compilers turn the intrinsics into one vbroadcastss for several FMA: 1 to 6 % slower on Zen 4.
MNV2_INLINE void fma_broadcast(Register& acc, Register w, const float* x)
{
    __asm__("vfmadd231ps %2%{1to16%}, %1, %0" : "+v"(acc) : "v"(w), "m"(*x));
}

MNV2_INLINE Register widen_register(const float* p) { return load_register(p); }
MNV2_INLINE Register widen_register(const Half* p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
MNV2_INLINE Register widen_register(const BFloat16* p)
{
    const __m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
}
MNV2_INLINE void narrow_register(Half* p, Register v)
{
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
// To the nearest, of two the even one; NaN stays NaN.
MNV2_INLINE __m256i to_bfloat16(Register v)
{
    const __m512i bits = _mm512_castps_si512(v), high = _mm512_srli_epi32(bits, 16);
    const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    const __m512i quiet = _mm512_or_si512(high, _mm512_set1_epi32(0x40));
    const __m512i result = _mm512_mask_blend_epi32(_mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), rounded, quiet);
    return _mm512_cvtepi32_epi16(result);
}

#if defined(__AVX512BF16__)
// The same by AVX-512's own instruction, which gives zero for subnormal numbers.
MNV2_INLINE void narrow_register(BFloat16* p, Register v)
{
    constexpr int subnormal = 0x20;
    __m256i rounded = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v));
    if (__builtin_expect(_mm512_fpclass_ps_mask(v, subnormal), 0)) rounded = to_bfloat16(v);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), rounded);
}
#endif

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
