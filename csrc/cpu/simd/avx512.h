// Sixteen floats in an AVX-512 register, thirty-two registers.
#pragma once

#include "cpu/isa/fetch_ahead.h"
#include "cpu/simd/avx512_vector-inl.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

using Stored = float;  // the type of blocked activations
// Emerald Rapids takes 23 to 27 % less at 7 x 7 by it, Zen 4 2 % less of the network.
constexpr FetchAhead fetch_ahead = FetchAhead::always;

// Fourteen chains hide every latency; with nine pixels by three vectors GCC runs out of registers.
constexpr int two_depth_max_mr[] = {14, 8};

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
MNV2_INLINE void fma_into(Vec& acc, Vec w, Vec x) { __asm__("vfmadd231ps %2, %1, %0" : "+v"(acc) : "v"(w), "v"(x)); }
// The sums of each two neighbours of a, then of b.
MNV2_INLINE Vec add_neighbours(Vec a, Vec b)
{
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    return add(_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b));
}
MNV2_INLINE void narrow(BFloat16* p, Vec v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), to_bfloat16(v)); }

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
