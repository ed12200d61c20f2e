// The sums of a tile by VDPBF16PS: an instruction adds the products of sixteen channels by two depths of a pixel, which lie
// side by side in blocked activations as they are.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "cpu/generic/pointwise/sums-inl.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

// Two depths of sixteen channels a vector.
template <int VECTORS>
struct TwoDepthsOfWeights {
    __m512i at[VECTORS];

    MNV2_INLINE explicit TwoDepthsOfWeights(const BFloat16* weights)
    {
        MNV2_UNROLL
        for (int v = 0; v < VECTORS; ++v) at[v] = _mm512_loadu_si512(weights + v * 2 * lanes);
    }
};

// sums += two depths of each pixel times their weights.
template <int MR, int VECTORS>
MNV2_INLINE void add_two_depths(Accumulators<MR, VECTORS>& sums, const BFloat16* x, const BFloat16* weights)
{
    const TwoDepthsOfWeights<VECTORS> w(weights);
    MNV2_UNROLL
    for (int r = 0; r < MR; ++r) {
        // Tied by hand, as fma_broadcast is.
        struct TwoDepths {
            BFloat16 at[2];
        };
        const auto& two = *reinterpret_cast<const TwoDepths*>(x + r * lanes);
        MNV2_UNROLL
        for (int v = 0; v < VECTORS; ++v)
            __asm__("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(sums.at[r][v]) : "v"(w.at[v]), "m"(two));
    }
}

// sums += the last depth. What lies behind it in a pixel's vector may be anything.
template <int MR, int VECTORS>
MNV2_INLINE void add_last_depth(Accumulators<MR, VECTORS>& sums, const BFloat16* x, const BFloat16* weights)
{
    const TwoDepthsOfWeights<VECTORS> w(weights);
    MNV2_UNROLL
    for (int r = 0; r < MR; ++r) {
        const __m512i one = _mm512_set1_epi32(x[r * lanes].bits);
        MNV2_UNROLL
        for (int v = 0; v < VECTORS; ++v) __asm__("vdpbf16ps %2, %1, %0" : "+v"(sums.at[r][v]) : "v"(w.at[v]), "v"(one));
    }
}

// The error of float32 sums is far below bfloat16's own, so long sums need no second accumulator.
template <bool IS_LONG, int MR, int VECTORS>
MNV2_INLINE void sum_tile(Accumulators<MR, VECTORS>& sums, int64_t depth, int64_t x_plane, const BFloat16* x,
                          const float* packed, const Ahead&)
{
    constexpr int two_depths = 2 * VECTORS * lanes;  // of weights
    clear(sums);
    const auto* weights = reinterpret_cast<const BFloat16*>(packed);
    for (; depth >= lanes; depth -= lanes, x += x_plane)
        for (int k = 0; k < lanes; k += unrolled_k) MNV2_UNROLL
    for (int u = 0; u < unrolled_k; u += 2, weights += two_depths) add_two_depths(sums, x + k + u, weights);
    for (; depth >= 2; depth -= 2, x += 2, weights += two_depths) add_two_depths(sums, x, weights);
    if (depth > 0) add_last_depth(sums, x, weights);
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
