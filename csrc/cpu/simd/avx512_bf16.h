// bfloat16 tensors on processors with AVX-512's own products of them; everything but the pointwise layers is float32.
#pragma once

#include "cpu/isa/fetch_ahead.h"
#include "cpu/simd/avx512_vector-inl.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

using Stored = BFloat16;                               // the type of blocked activations
constexpr FetchAhead fetch_ahead = FetchAhead::never;  // 0.998 to 1.000 of the time on Zen 4

MNV2_INLINE void narrow(BFloat16* p, Vec v) { narrow_register(p, v); }

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
