// Vectors of one AVX-512 register, and the tiles of all instruction sets that have them.
#pragma once

#include "cpu/simd/avx512_register-inl.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

using Vec = Register;
constexpr int vector_registers = 1;
constexpr int lanes = register_lanes;
constexpr int panel_vectors = 2;
constexpr int max_mr[] = {28, 14};  // 28 accumulators, and V2's sizes are multiples of 7
constexpr int unrolled_k = 8;

MNV2_INLINE Vec load(const float* p) { return load_register(p); }
MNV2_INLINE Vec splat(float x) { return splat_register(x); }
MNV2_INLINE Vec widen(const Half* p) { return widen_register(p); }
MNV2_INLINE Vec widen(const BFloat16* p) { return widen_register(p); }
MNV2_INLINE void narrow(Half* p, Vec v) { narrow_register(p, v); }

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA

#include "cpu/simd/depths_in_memory-inl.h"
