// The instructions of matrix tiles that int8 kernels use, by register numbers. Tests have a model of them under the same names.
#pragma once

#include "cpu/simd/amx/tile_registers-inl.h"
#include "cpu/simd/macros.h"

namespace mnv2::cpu::int8::MNV2_ISA {
namespace {

using cpu::MNV2_ISA::TileShapes;
using cpu::MNV2_ISA::with_tile_registers;

template <int TILE>
MNV2_INLINE void tile_zero()
{
    __asm__ volatile("tilezero %%tmm%c0" ::"i"(TILE) : "memory");
}

// pitch: bytes from a row to the next.
template <int TILE>
MNV2_INLINE void tile_load(const uint8_t* from, int64_t pitch)
{
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(pitch), "i"(TILE) : "memory");
}

template <int TILE>
MNV2_INLINE void tile_store(int32_t* to, int64_t pitch)
{
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(pitch), "i"(TILE) : "memory");
}

// sums += the products of rows of x, unsigned, with words of four weights, signed.
template <int SUMS, int X, int WEIGHTS>
MNV2_INLINE void tile_dot()
{
    __asm__ volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(SUMS), "i"(X), "i"(WEIGHTS) : "memory");
}

}  // namespace
}  // namespace mnv2::cpu::int8::MNV2_ISA
