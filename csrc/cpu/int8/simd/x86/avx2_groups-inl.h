// Groups of sixteen channels in two vectors of sums, whose lanes hold channels 0-3, 8-11 and 4-7, 12-15: what becomes of them.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "cpu/int8/kernels.h"
#include "cpu/simd/macros.h"

namespace mnv2::cpu::int8::MNV2_ISA {
namespace {

constexpr int register_lanes = 8;
constexpr int64_t group = 2 * register_lanes;

MNV2_INLINE __m256i load(const void* p)
{
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}

MNV2_INLINE __m128i load_bytes(const void* p)
{
    return _mm_loadu_si128(static_cast<const __m128i*>(p));
}

MNV2_INLINE __m256 scaled(__m256i sum, const float* m, const float* b)
{
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_loadu_ps(m), _mm256_loadu_ps(b));
}

// Sixteen results of a group, or the first eight.
MNV2_INLINE void store_group(uint8_t* y, __m256 first, __m256 second, bool is_whole = true)
{
    const __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(first), _mm256_cvtps_epi32(second));
    const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    if (is_whole)
        _mm_storeu_si128(reinterpret_cast<__m128i*>(y), bytes);
    else
        _mm_storeu_si64(y, bytes);
}

const float* factors_of(const uint8_t* panel)
{
    return reinterpret_cast<const float*>(panel);
}

struct Tile {
    int mr, vectors;
};

template <Tile TILE>
struct Sums {
    __m256i at[TILE.mr][TILE.vectors];
};

template <Tile TILE>
MNV2_INLINE void clear(Sums<TILE>& sums)
{
    MNV2_UNROLL
    for (int m = 0; m < TILE.mr; ++m) MNV2_UNROLL
    for (int v = 0; v < TILE.vectors; ++v) __asm__ volatile("vpxor %0, %0, %0" : "=x"(sums.at[m][v]));
}

// A group from channel `first_channel` on of a panel of `width` channels, whose pixels are stored in `y_width` bytes each. y,
// shortcut: the group's of the tile's first pixel.
template <Tile TILE, bool HAS_SHORTCUT>
MNV2_INLINE void store_tile(const Sums<TILE>& sums, const float* panel_factors, int64_t width, int64_t first_channel,
                            uint8_t* y, int64_t y_width, const uint8_t* shortcut)
{
    const float* const factors = panel_factors + first_channel;
    const bool is_whole = first_channel + group <= y_width;
    MNV2_UNROLL
    for (int m = 0; m < TILE.mr; ++m) {
        __m256 first = scaled(sums.at[m][0], factors, factors + width);
        __m256 second = scaled(sums.at[m][1], factors + register_lanes, factors + width + register_lanes);
        if constexpr (HAS_SHORTCUT) {
            const float* const r = factors + 2 * width;
            const __m128i bytes = _mm_shuffle_epi32(load_bytes(shortcut + m * y_width), _MM_SHUFFLE(3, 1, 2, 0));
            const __m256i low = _mm256_cvtepu8_epi32(bytes), high = _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8));
            first = _mm256_fmadd_ps(_mm256_cvtepi32_ps(low), _mm256_loadu_ps(r), first);
            second = _mm256_fmadd_ps(_mm256_cvtepi32_ps(high), _mm256_loadu_ps(r + register_lanes), second);
        }
        store_group(y + m * y_width, first, second, is_whole);
    }
}

// A group of a panel of `width` channels, which are in order.
template <Tile TILE>
MNV2_INLINE void store_floats(const Sums<TILE>& sums, const float* factors, int64_t width, float* y)
{
    MNV2_UNROLL
    for (int m = 0; m < TILE.mr; ++m) MNV2_UNROLL
    for (int v = 0; v < TILE.vectors; ++v) {
        const float* const of = factors + register_lanes * v;
        _mm256_storeu_ps(y + m * width + register_lanes * v, scaled(sums.at[m][v], of, of + width));
    }
}

}  // namespace
}  // namespace mnv2::cpu::int8::MNV2_ISA
