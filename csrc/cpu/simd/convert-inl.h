// Vectors from and to memory of any type, float32 among them.
#pragma once

#include "core/block.h"
#include "core/half-inl.h"
#include "cpu/simd/macros.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

// The name that the plain interfaces have for a type of numbers in memory.
template <class T>
constexpr ScalarType type_of = ScalarType::float32;
template <>
constexpr ScalarType type_of<Half> = ScalarType::float16;
template <>
constexpr ScalarType type_of<BFloat16> = ScalarType::bfloat16;

MNV2_INLINE Vec widen(const float* p) { return load(p); }
MNV2_INLINE void narrow(float* p, const Vec& v) { store(p, v); }

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
