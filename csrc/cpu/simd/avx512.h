// Sixteen floats in an AVX-512 register, thirty-two registers.
#pragma once

#include "cpu/fetch_ahead.h"
#include "cpu/simd/avx512_vector-inl.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

using Stored = float;  // the type of blocked activations
// At 7 x 7 Emerald Rapids then takes 23 to 27 % less; Zen 4, in a prototype, 1.5 to 3 % of the network.
constexpr FetchAhead fetch_ahead = FetchAhead::always;

// The pair product's: sums of a vector and a float in memory, neighbouring lanes exchanged, lanes added up.
#define MNV2_HAS_PAIR_PRODUCT
MNV2_INLINE Vec add_broadcast(Vec w, const float* x)
{
    Vec sum;
    __asm__("vaddps %2%{1to16%}, %1, %0" : "=v"(sum) : "v"(w), "m"(*x));
    return sum;
}
// w - x[0]
MNV2_INLINE Vec sub_broadcast(Vec w, const float* x)
{
    Vec difference;
    __asm__("vsubps %2%{1to16%}, %1, %0" : "=v"(difference) : "v"(w), "m"(*x));
    return difference;
}
MNV2_INLINE Vec load_first(const float* p, int64_t count)
{
    return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1u), p);
}
MNV2_INLINE Vec swap_neighbours(Vec v)
{
    return _mm512_permute_ps(v, 0xb1);
}
// Lane i: the sum of row i, its lanes added up in the same order for each.
MNV2_INLINE Vec sum_rows(const float (&rows)[lanes][lanes])
{
    Vec fours[4];  // of four rows: four sums of every fourth part of a row
    MNV2_UNROLL
    for (int i = 0; i < 4; ++i) {
        const Vec a = load(rows[4 * i]), b = load(rows[4 * i + 1]), c = load(rows[4 * i + 2]), d = load(rows[4 * i + 3]);
        const __m512d ab = _mm512_castps_pd(add(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)));
        const __m512d cd = _mm512_castps_pd(add(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d)));
        fours[i] = add(_mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)), _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)));
    }
    const auto add_parts = [](Vec x, Vec y) { return add(_mm512_shuffle_f32x4(x, y, 0x88), _mm512_shuffle_f32x4(x, y, 0xdd)); };
    return add_parts(add_parts(fours[0], fours[1]), add_parts(fours[2], fours[3]));
}

// Tiles of panels of two depths, one and three vectors wide. Fourteen chains hide every latency; for a ninth row of three
// vectors GCC runs out of registers.
constexpr int two_depth_tile_rows[] = {14, 8};

// x[0] and x[1], or x[0] and zero, in turn.
MNV2_INLINE Vec broadcast_two(const float* x)
{
    struct Two {
        float at[2];
    };
    Vec two;
    __asm__("vbroadcastsd %1, %0" : "=v"(two) : "m"(*reinterpret_cast<const Two*>(x)));
    return two;
}
MNV2_INLINE Vec broadcast_one_of_two(const float* x)
{
    constexpr __mmask16 even = 0x5555;
    return _mm512_maskz_broadcastss_ps(even, _mm_load_ss(x));
}
// acc += w * x. By intrinsics GCC exchanges accumulators and operands, and spills.
MNV2_INLINE void fma_into(Vec& acc, Vec w, Vec x)
{
    __asm__("vfmadd231ps %2, %1, %0" : "+v"(acc) : "v"(w), "v"(x));
}
// The sums of each two neighbours of a, then of b.
MNV2_INLINE Vec add_neighbours(Vec a, Vec b)
{
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    return add(_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b));
}
MNV2_INLINE void narrow(BFloat16* p, Vec v)
{
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), to_bfloat16(v));
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
