// Registers of 64 bytes, as vnni_registers-inl.h has shorter ones.
#pragma once

#include "cpu/int8/simd/x86/vnni_registers-inl.h"

namespace mnv2::cpu::int8::MNV2_ISA {
namespace {

struct Bytes64 {
    using Vec = __m512i;
    static constexpr int64_t width = 64;

    static MNV2_INLINE Vec zero() { return _mm512_setzero_si512(); }
    static MNV2_INLINE Vec load(const void* p) { return _mm512_loadu_si512(p); }
    static MNV2_INLINE void store(void* p, Vec v) { _mm512_storeu_si512(p, v); }
    static MNV2_INLINE Vec ones() { return _mm512_set1_epi8(1); }
    static MNV2_INLINE Vec low8(Vec a, Vec b) { return _mm512_unpacklo_epi8(a, b); }
    static MNV2_INLINE Vec high8(Vec a, Vec b) { return _mm512_unpackhi_epi8(a, b); }
    static MNV2_INLINE Vec low16(Vec a, Vec b) { return _mm512_unpacklo_epi16(a, b); }
    static MNV2_INLINE Vec high16(Vec a, Vec b) { return _mm512_unpackhi_epi16(a, b); }
    static MNV2_INLINE Vec pack32(Vec a, Vec b) { return _mm512_packs_epi32(a, b); }
    static MNV2_INLINE Vec pack16(Vec a, Vec b) { return _mm512_packus_epi16(a, b); }
    // rint(fma(sum, M, B))
    static MNV2_INLINE Vec scaled(Vec sum, const float* m, const float* b)
    {
        return _mm512_cvtps_epi32(_mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_loadu_ps(m), _mm512_loadu_ps(b)));
    }
    // rint(clamp(sum * factor)): no bound of this product is known.
    static MNV2_INLINE Vec pooled(Vec sum, float factor)
    {
        const __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(factor));
        return _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(y, _mm512_setzero_ps()), _mm512_set1_ps(255.0f)));
    }
};

using WidestBytes = Bytes64;

}  // namespace
}  // namespace mnv2::cpu::int8::MNV2_ISA
