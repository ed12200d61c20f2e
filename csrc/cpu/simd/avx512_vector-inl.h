// Vectors of one AVX-512 register, and the tiles that all families of them have.
#pragma once

#include "cpu/simd/avx512_register-inl.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

using Vec = Part;
constexpr int parts = 1;
constexpr int lanes = part_lanes;
constexpr int panel_vectors = 2;
constexpr int tile_rows[] = {28, 14};  // of tiles one and two vectors wide: 28 accumulators, and V2's sizes are multiples of 7
// Depths that a pass of the innermost loop unrolls: no more than the instruction cache likes.
constexpr int unrolled_depths = 8;

MNV2_INLINE Vec load(const float* p)
{
    return load_part(p);
}
MNV2_INLINE Vec splat(float x)
{
    return splat_part(x);
}
using Depths = const float*;
MNV2_INLINE Depths depths(const float* x)
{
    return x;
}
// acc += w * x[DEPTH]
template <int DEPTH>
MNV2_INLINE void fma_depth(Vec& acc, Vec w, Depths x)
{
    fma_broadcast(acc, w, x + DEPTH);
}
MNV2_INLINE Vec widen(const Half* p)
{
    return widen_part(p);
}
MNV2_INLINE Vec widen(const BFloat16* p)
{
    return widen_part(p);
}
MNV2_INLINE void narrow(Half* p, Vec v)
{
    narrow_part(p, v);
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
