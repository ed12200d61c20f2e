// Rounding to bfloat16 by AVX-512's own instruction.
#pragma once

#include "cpu/simd/avx512_register-inl.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

// The instruction gives zero for subnormal numbers.
MNV2_INLINE void narrow_register(BFloat16* p, Register v)
{
    constexpr int subnormal = 0x20;
    __m256i rounded = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v));
    if (__builtin_expect(_mm512_fpclass_ps_mask(v, subnormal), 0)) rounded = to_bfloat16(v);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), rounded);
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
