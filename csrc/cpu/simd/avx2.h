// Eight floats in an AVX2 register, sixteen registers; needs FMA and F16C, which every processor with AVX2 has.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "core/half-inl.h"
#include "cpu/isa/fetch_ahead.h"
#include "cpu/simd/macros.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

using Vec = __m256;
using Stored = float;  // the type of blocked activations
constexpr int register_count = 16;
constexpr int lanes = 8;
constexpr int panel_vectors = 2;
// 12 accumulators, 2 weights and a broadcast leave one register of sixteen.
constexpr int max_mr[] = {12, 6};
constexpr int unrolled_k = 8;
constexpr bool fma_overwrites_addend = false;
// Emerald Rapids takes 20 % less at 7 x 7 by it. Zen 4 would gain 3 %, but has AVX-512; Zen 3 lost up to 8 % by other forms.
constexpr FetchAhead fetch_ahead = FetchAhead::on_intel;

MNV2_INLINE Vec load(const float* p) { return _mm256_loadu_ps(p); }
MNV2_INLINE void store(float* p, Vec v) { _mm256_storeu_ps(p, v); }
// A masked store takes some 20 cycles on AMD's cores.
MNV2_INLINE void store_first(float* p, Vec v, int64_t count)
{
    __m128 rest = _mm256_castps256_ps128(v);
    if (count & 4) {
        _mm_storeu_ps(p, rest);
        rest = _mm256_extractf128_ps(v, 1);
        p += 4;
    }
    if (count & 2) {
        _mm_storel_pi(reinterpret_cast<__m64*>(p), rest);
        rest = _mm_movehl_ps(rest, rest);
        p += 2;
    }
    if (count & 1) _mm_store_ss(p, rest);
}
MNV2_INLINE Vec splat(float x) { return _mm256_set1_ps(x); }
MNV2_INLINE Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
MNV2_INLINE Vec mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
MNV2_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
MNV2_INLINE Vec fma_once(Vec a, Vec b, Vec c) { return fma(a, b, c); }
MNV2_INLINE Vec div(Vec a, Vec b) { return _mm256_div_ps(a, b); }
MNV2_INLINE Vec times_power_of_two(Vec a, Vec n)
{
    const __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(n), exponent_shift);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), exponent));
}
MNV2_INLINE Vec clamp(Vec x, Vec low, Vec high) { return _mm256_min_ps(high, _mm256_max_ps(low, x)); }
// acc += w * x[0]. By intrinsics GCC copies or spills accumulators in the larger tiles (71 % of peak instead of 99).
MNV2_INLINE void fma_broadcast(Vec& acc, Vec w, const float* x)
{
    const Vec broadcast = _mm256_broadcast_ss(x);
    __asm__("vfmadd231ps %2, %1, %0" : "+x"(acc) : "x"(w), "x"(broadcast));
}
MNV2_INLINE Vec widen(const Half* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
MNV2_INLINE Vec widen(const BFloat16* p)
{
    const __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
}
MNV2_INLINE void narrow(Half* p, Vec v)
{
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
MNV2_INLINE void narrow(BFloat16* p, Vec v)
{
    const __m256i bits = _mm256_castps_si256(v), high = _mm256_srli_epi32(bits, 16);
    const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
    const __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256i result = _mm256_blendv_epi8(rounded, quiet, is_nan);
    // Packing works within 128-bit halves; the permutation brings the two useful quarters together.
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(result, result), 0x08);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA

#include "cpu/simd/depths_in_memory-inl.h"
#include "cpu/simd/one_register-inl.h"
