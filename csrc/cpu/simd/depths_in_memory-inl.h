// For instruction sets whose multiply-adds take a depth of a pixel from memory.
#pragma once

#include "cpu/simd/macros.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

using Depths = const float*;

MNV2_INLINE Depths depths(const float* x) { return x; }

// acc += w * x[K]
template <int K>
MNV2_INLINE void fma_depth(Vec& acc, const Vec& w, Depths x)
{
    fma_broadcast(acc, w, x + K);
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
