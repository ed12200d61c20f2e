// bfloat16 tensors on processors with AMX: matrix tiles multiply, everything else is float32. Vectors are thirty-two floats in
// two AVX-512 registers, since a tile's row holds thirty-two depths.
#pragma once

#include "cpu/isa/fetch_ahead.h"
#include "cpu/simd/avx512_narrow-inl.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

using Stored = BFloat16;  // the type of blocked activations
constexpr int parts = 2;
constexpr int lanes = parts * part_lanes;
constexpr int panel_vectors = 1;
// Of tiles in vector registers, whose sources name them; this family has none but the stem's (24 accumulators).
constexpr int tile_rows[] = {12, 6};
constexpr int unrolled_depths = 8;
constexpr FetchAhead fetch_ahead = FetchAhead::never;

struct Vec {
    Part low, high;
};

MNV2_INLINE Vec load(const float* p)
{
    return {load_part(p), load_part(p + part_lanes)};
}
MNV2_INLINE void store(float* p, Vec v)
{
    store(p, v.low);
    store(p + part_lanes, v.high);
}
MNV2_INLINE void store_first(float* p, Vec v, int64_t count)
{
    store_first(p, v.low, count < part_lanes ? count : part_lanes);
    if (count > part_lanes) store_first(p + part_lanes, v.high, count - part_lanes);
}
MNV2_INLINE Vec splat(float x)
{
    return {splat_part(x), splat_part(x)};
}
MNV2_INLINE Vec add(Vec a, Vec b)
{
    return {add(a.low, b.low), add(a.high, b.high)};
}
MNV2_INLINE Vec mul(Vec a, Vec b)
{
    return {mul(a.low, b.low), mul(a.high, b.high)};
}
MNV2_INLINE Vec fma(Vec a, Vec b, Vec c)
{
    return {fma(a.low, b.low, c.low), fma(a.high, b.high, c.high)};
}
MNV2_INLINE Vec clamp(Vec x, Vec low, Vec high)
{
    return {clamp(x.low, low.low, high.low), clamp(x.high, low.high, high.high)};
}
MNV2_INLINE void fma_broadcast(Vec& acc, Vec w, const float* x)
{
    fma_broadcast(acc.low, w.low, x);
    fma_broadcast(acc.high, w.high, x);
}

// acc += w * x[DEPTH]; named, but not used, as above.
using Depths = const float*;
MNV2_INLINE Depths depths(const float* x)
{
    return x;
}
template <int DEPTH>
MNV2_INLINE void fma_depth(Vec& acc, Vec w, Depths x)
{
    fma_broadcast(acc, w, x + DEPTH);
}

// For matrix tiles, to which subnormal numbers are zero, too.
MNV2_INLINE void narrow(BFloat16* p, Part v)
{
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v)));
}

template <class T>
MNV2_INLINE Vec widen(const T* p)
{
    return {widen_part(p), widen_part(p + part_lanes)};
}
template <class T>
MNV2_INLINE void narrow(T* p, Vec v)
{
    narrow_part(p, v.low);
    narrow_part(p + part_lanes, v.high);
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
