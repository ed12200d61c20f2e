// Registers of 32 and 16 bytes with what int8 kernels ask of them, by VNNI of either encoding.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "cpu/simd/macros.h"

namespace mnv2::cpu::int8::MNV2_ISA {
namespace {

// A processor without AVX-512 knows the shorter encoding alone.
#if defined(__AVXVNNI__)
#define MNV2_VPDPBUSD "%{vex%} vpdpbusd"
#else
#define MNV2_VPDPBUSD "vpdpbusd"
#endif

// Adds the products of each four bytes, x unsigned and weights signed. The sum is tied by hand, or GCC copies it.
template <class Vec>
MNV2_INLINE void dot(Vec& sum, Vec x, Vec weights)
{
    __asm__(MNV2_VPDPBUSD " %2, %1, %0" : "+v"(sum) : "v"(x), "vm"(weights));
}

struct Bytes32 {
    using Vec = __m256i;
    static constexpr int64_t width = 32;

    static MNV2_INLINE Vec zero() { return _mm256_setzero_si256(); }
    static MNV2_INLINE Vec load(const void* p) { return _mm256_loadu_si256(static_cast<const Vec*>(p)); }
    static MNV2_INLINE void store(void* p, Vec v) { _mm256_storeu_si256(static_cast<Vec*>(p), v); }
    static MNV2_INLINE Vec ones() { return _mm256_set1_epi8(1); }
    static MNV2_INLINE Vec low8(Vec a, Vec b) { return _mm256_unpacklo_epi8(a, b); }
    static MNV2_INLINE Vec high8(Vec a, Vec b) { return _mm256_unpackhi_epi8(a, b); }
    static MNV2_INLINE Vec low16(Vec a, Vec b) { return _mm256_unpacklo_epi16(a, b); }
    static MNV2_INLINE Vec high16(Vec a, Vec b) { return _mm256_unpackhi_epi16(a, b); }
    static MNV2_INLINE Vec pack32(Vec a, Vec b) { return _mm256_packs_epi32(a, b); }
    static MNV2_INLINE Vec pack16(Vec a, Vec b) { return _mm256_packus_epi16(a, b); }
    static MNV2_INLINE Vec scaled(Vec sum, const float* m, const float* b)
    {
        return _mm256_cvtps_epi32(_mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_loadu_ps(m), _mm256_loadu_ps(b)));
    }
    static MNV2_INLINE Vec pooled(Vec sum, float factor)
    {
        const __m256 y = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_set1_ps(factor));
        return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(y, _mm256_setzero_ps()), _mm256_set1_ps(255.0f)));
    }
};

struct Bytes16 {
    using Vec = __m128i;
    static constexpr int64_t width = 16;

    static MNV2_INLINE Vec zero() { return _mm_setzero_si128(); }
    static MNV2_INLINE Vec load(const void* p) { return _mm_loadu_si128(static_cast<const Vec*>(p)); }
    static MNV2_INLINE void store(void* p, Vec v) { _mm_storeu_si128(static_cast<Vec*>(p), v); }
    static MNV2_INLINE Vec ones() { return _mm_set1_epi8(1); }
    static MNV2_INLINE Vec low8(Vec a, Vec b) { return _mm_unpacklo_epi8(a, b); }
    static MNV2_INLINE Vec high8(Vec a, Vec b) { return _mm_unpackhi_epi8(a, b); }
    static MNV2_INLINE Vec low16(Vec a, Vec b) { return _mm_unpacklo_epi16(a, b); }
    static MNV2_INLINE Vec high16(Vec a, Vec b) { return _mm_unpackhi_epi16(a, b); }
    static MNV2_INLINE Vec pack32(Vec a, Vec b) { return _mm_packs_epi32(a, b); }
    static MNV2_INLINE Vec pack16(Vec a, Vec b) { return _mm_packus_epi16(a, b); }
    static MNV2_INLINE Vec scaled(Vec sum, const float* m, const float* b)
    {
        return _mm_cvtps_epi32(_mm_fmadd_ps(_mm_cvtepi32_ps(sum), _mm_loadu_ps(m), _mm_loadu_ps(b)));
    }
    static MNV2_INLINE Vec pooled(Vec sum, float factor)
    {
        const __m128 y = _mm_mul_ps(_mm_cvtepi32_ps(sum), _mm_set1_ps(factor));
        return _mm_cvtps_epi32(_mm_min_ps(_mm_max_ps(y, _mm_setzero_ps()), _mm_set1_ps(255.0f)));
    }
};

}  // namespace
}  // namespace mnv2::cpu::int8::MNV2_ISA
