// The portable vector: MNV2_SCALAR_LANES floats in plain C++, for processors that have no file of their own here. Tests also
// build it with other widths and numbers of registers, by which kernels choose other forms.
#pragma once

#include <cstdint>

#include "core/half-inl.h"
#include "cpu/isa/fetch_ahead.h"
#include "cpu/simd/macros.h"

#ifndef MNV2_SCALAR_LANES
#define MNV2_SCALAR_LANES 4
#endif
#ifndef MNV2_SCALAR_REGISTERS
#define MNV2_SCALAR_REGISTERS 16
#endif

namespace mnv2::cpu::MNV2_ISA {
namespace {

using Stored = float;  // the type of blocked activations
constexpr int register_count = MNV2_SCALAR_REGISTERS;
constexpr int lanes = MNV2_SCALAR_LANES;
constexpr int panel_vectors = 2;
constexpr int max_mr[] = {8, 4};
constexpr int unrolled_k = 1;  // a vector is a loop of its own
constexpr bool fma_overwrites_addend = false;
constexpr FetchAhead fetch_ahead = FetchAhead::never;

struct Vec {
    float at[lanes];
};

template <class Function>
MNV2_INLINE Vec generate(Function function)
{
    Vec v;
    for (int i = 0; i < lanes; ++i) v.at[i] = function(i);
    return v;
}

MNV2_INLINE Vec load(const float* p)
{
    return generate([=](int i) { return p[i]; });
}
MNV2_INLINE void store(float* p, const Vec& v)
{
    for (int i = 0; i < lanes; ++i) p[i] = v.at[i];
}
MNV2_INLINE void store_first(float* p, const Vec& v, int64_t count)
{
    for (int64_t i = 0; i < count; ++i) p[i] = v.at[i];
}
MNV2_INLINE Vec splat(float x)
{
    return generate([=](int) { return x; });
}
MNV2_INLINE Vec add(const Vec& a, const Vec& b)
{
    return generate([&](int i) { return a.at[i] + b.at[i]; });
}
MNV2_INLINE Vec mul(const Vec& a, const Vec& b)
{
    return generate([&](int i) { return a.at[i] * b.at[i]; });
}
MNV2_INLINE Vec fma(const Vec& a, const Vec& b, const Vec& c)
{
    return generate([&](int i) { return a.at[i] * b.at[i] + c.at[i]; });
}
MNV2_INLINE Vec fma_once(const Vec& a, const Vec& b, const Vec& c)
{
    return generate([&](int i) { return __builtin_fmaf(a.at[i], b.at[i], c.at[i]); });
}
MNV2_INLINE Vec div(const Vec& a, const Vec& b)
{
    return generate([&](int i) { return a.at[i] / b.at[i]; });
}
MNV2_INLINE Vec times_power_of_two(const Vec& a, const Vec& n)
{
    return generate([&](int i) {
        const uint32_t exponent = __builtin_bit_cast(uint32_t, n.at[i]) << exponent_shift;
        return __builtin_bit_cast(float, __builtin_bit_cast(uint32_t, a.at[i]) + exponent);
    });
}
MNV2_INLINE Vec clamp(const Vec& x, const Vec& low, const Vec& high)
{
    return generate([&](int i) {
        const float v = low.at[i] > x.at[i] ? low.at[i] : x.at[i];
        return high.at[i] < v ? high.at[i] : v;
    });
}
// acc += w * x[0]
MNV2_INLINE void fma_broadcast(Vec& acc, const Vec& w, const float* x) { acc = fma(w, splat(*x), acc); }
constexpr int two_depth_max_mr[] = {3, 2};

// x[0] and x[1], or x[0] and zero, in turn.
MNV2_INLINE Vec broadcast_two(const float* x)
{
    return generate([=](int i) { return x[i % 2]; });
}
MNV2_INLINE Vec broadcast_one_of_two(const float* x)
{
    return generate([=](int i) { return i % 2 == 0 ? *x : 0.0f; });
}
// acc += w * x
MNV2_INLINE void fma_into(Vec& acc, const Vec& w, const Vec& x) { acc = fma(w, x, acc); }
// The sums of each two neighbours of a, then of b.
MNV2_INLINE Vec add_neighbours(const Vec& a, const Vec& b)
{
    return generate([&](int i) {
        const float* of = i < lanes / 2 ? a.at + 2 * i : b.at + 2 * i - lanes;
        return of[0] + of[1];
    });
}

MNV2_INLINE Vec widen(const Half* p)
{
    return generate([=](int i) { return to_float(p[i]); });
}
MNV2_INLINE Vec widen(const BFloat16* p)
{
    return generate([=](int i) { return to_float(p[i]); });
}
template <class T>
MNV2_INLINE void narrow(T* p, const Vec& v)
{
    for (int i = 0; i < lanes; ++i) from_float(v.at[i], p + i);
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA

#include "cpu/simd/depths_in_memory-inl.h"
#include "cpu/simd/one_register-inl.h"
