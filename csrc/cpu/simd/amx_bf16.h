// bfloat16 tensors on processors with AMX: matrix tiles multiply, everything else is float32. Vectors are thirty-two floats in
// two AVX-512 registers, since a row of a matrix tile holds thirty-two depths.
#pragma once

#include "cpu/isa/fetch_ahead.h"
#include "cpu/simd/avx512_register-inl.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

using Stored = BFloat16;  // the type of blocked activations
constexpr int vector_registers = 2;
constexpr int lanes = vector_registers * register_lanes;
constexpr int panel_vectors = 1;
// The stem is the only layer of this instruction set whose tiles are in vector registers (24 accumulators).
constexpr int max_mr[] = {12, 6};
constexpr int unrolled_k = 8;
constexpr FetchAhead fetch_ahead = FetchAhead::never;

struct Vec {
    Register low, high;
};

MNV2_INLINE Vec load(const float* p) { return {load_register(p), load_register(p + register_lanes)}; }
MNV2_INLINE void store(float* p, Vec v)
{
    store(p, v.low);
    store(p + register_lanes, v.high);
}
MNV2_INLINE void store_first(float* p, Vec v, int64_t count)
{
    store_first(p, v.low, count < register_lanes ? count : register_lanes);
    if (count > register_lanes) store_first(p + register_lanes, v.high, count - register_lanes);
}
MNV2_INLINE Vec splat(float x) { return {splat_register(x), splat_register(x)}; }
MNV2_INLINE Vec add(Vec a, Vec b) { return {add(a.low, b.low), add(a.high, b.high)}; }
MNV2_INLINE Vec mul(Vec a, Vec b) { return {mul(a.low, b.low), mul(a.high, b.high)}; }
MNV2_INLINE Vec fma(Vec a, Vec b, Vec c) { return {fma(a.low, b.low, c.low), fma(a.high, b.high, c.high)}; }
MNV2_INLINE Vec clamp(Vec x, Vec low, Vec high)
{
    return {clamp(x.low, low.low, high.low), clamp(x.high, low.high, high.high)};
}
MNV2_INLINE void fma_broadcast(Vec& acc, Vec w, const float* x)
{
    fma_broadcast(acc.low, w.low, x);
    fma_broadcast(acc.high, w.high, x);
}

// For matrix tiles, which take subnormal numbers for zero, as this instruction does.
MNV2_INLINE void narrow(BFloat16* p, Register v)
{
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v)));
}

template <class T>
MNV2_INLINE Vec widen(const T* p)
{
    return {widen_register(p), widen_register(p + register_lanes)};
}
template <class T>
MNV2_INLINE void narrow(T* p, Vec v)
{
    narrow_register(p, v.low);
    narrow_register(p + register_lanes, v.high);
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA

#include "cpu/simd/depths_in_memory-inl.h"
