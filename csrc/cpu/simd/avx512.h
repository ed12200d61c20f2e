// Sixteen floats in an AVX-512 register, thirty-two registers.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "core/half-inl.h"
#include "cpu/fetch_ahead.h"
#include "cpu/simd/macros.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

using Vec = __m512;
using Stored = float;  // the type of blocked activations
constexpr int registers = 32;
constexpr int lanes = 16;
constexpr int tile_rows[] = {28, 14};  // of tiles one and two vectors wide: 28 accumulators, and V2's sizes are multiples of 7
// Depths that a pass of the innermost loop unrolls: no more than the instruction cache likes.
constexpr int unrolled_depths = 8;
constexpr bool fma_overwrites_addend = false;
// At 7 x 7 Emerald Rapids then takes 23 to 27 % less; Zen 4, in a prototype, 1.5 to 3 % of the network.
constexpr FetchAhead fetch_ahead = FetchAhead::always;

MNV2_INLINE Vec load(const float* p)
{
    return _mm512_loadu_ps(p);
}
MNV2_INLINE void store(float* p, Vec v)
{
    _mm512_storeu_ps(p, v);
}
MNV2_INLINE void store_first(float* p, Vec v, int64_t count)
{
    _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << count) - 1u), v);
}
MNV2_INLINE Vec splat(float x)
{
    return _mm512_set1_ps(x);
}
MNV2_INLINE Vec add(Vec a, Vec b)
{
    return _mm512_add_ps(a, b);
}
MNV2_INLINE Vec mul(Vec a, Vec b)
{
    return _mm512_mul_ps(a, b);
}
MNV2_INLINE Vec fma(Vec a, Vec b, Vec c)
{
    return _mm512_fmadd_ps(a, b, c);
}
MNV2_INLINE Vec clamp(Vec x, Vec low, Vec high)
{
    return _mm512_min_ps(high, _mm512_max_ps(low, x));
}
using Depths = const float*;
MNV2_INLINE Depths depths(const float* x)
{
    return x;
}
// acc += w * x[0]. Compilers turn the intrinsics into one vbroadcastss for several FMA: 1 to 6 % slower on Zen 4.
MNV2_INLINE void fma_broadcast(Vec& acc, Vec w, const float* x)
{
    __asm__("vfmadd231ps %2%{1to16%}, %1, %0" : "+v"(acc) : "v"(w), "m"(*x));
}
// acc += w * x[DEPTH]
template <int DEPTH>
MNV2_INLINE void fma_depth(Vec& acc, Vec w, Depths x)
{
    fma_broadcast(acc, w, x + DEPTH);
}

MNV2_INLINE Vec widen(const Half* p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
MNV2_INLINE Vec widen(const BFloat16* p)
{
    const __m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
}
MNV2_INLINE void narrow(Half* p, Vec v)
{
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
MNV2_INLINE void narrow(BFloat16* p, Vec v)
{
    const __m512i bits = _mm512_castps_si512(v), high = _mm512_srli_epi32(bits, 16);
    const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    const __m512i quiet = _mm512_or_si512(high, _mm512_set1_epi32(0x40));
    const __m512i result = _mm512_mask_blend_epi32(_mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), rounded, quiet);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(result));
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA

#include "cpu/simd/whole_parts-inl.h"
