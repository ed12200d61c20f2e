// The registers of matrix tiles, whose shapes are set before they are used.
#pragma once

#include <immintrin.h>

#include "cpu/simd/amx/tile_shapes-inl.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

// Runs body while the tile registers have these shapes, and releases them, so that a thread does not carry 8 KiB of state on.
// Both together take 220 cycles, some 1 % of a network of floats. No destructor: the handling of exceptions, which body does
// not throw, would be a weak symbol.
template <class Body>
MNV2_INLINE void with_tile_registers(const TileShapes& shapes, const Body& body)
{
    __asm__ volatile("ldtilecfg %0" ::"m"(shapes));  // GCC's intrinsic reads eight bytes of them
    body();
    _tile_release();
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
