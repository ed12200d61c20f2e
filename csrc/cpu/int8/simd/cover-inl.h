// A row of pixels, cut into tiles whose height is known when they are compiled.
#pragma once

#include <cstdint>

#include "core/sizes.h"
#include "cpu/simd/macros.h"

namespace mnv2::cpu::int8::MNV2_ISA {
namespace {

template <int MR, class Tiles>
MNV2_INLINE void call_with_mr(int64_t mr, const Tiles& tiles, int64_t column, int64_t count)
{
    if (mr == MR) return tiles.template operator()<MR>(column, count);
    if constexpr (MR > 1) call_with_mr<MR - 1>(mr, tiles, column, count);
}

// Calls tiles<mr>(column, count) so that they cover a row by tiles of nearly equal height.
template <int MAX_MR, class Tiles>
MNV2_INLINE void cover(int64_t columns, const Tiles& tiles)
{
    const int64_t count = divide_up(columns, MAX_MR), mr = columns / count, higher = columns % count;
    if (higher) call_with_mr<MAX_MR>(mr + 1, tiles, 0, higher);
    call_with_mr<MAX_MR>(mr, tiles, higher * (mr + 1), count - higher);
}

}  // namespace
}  // namespace mnv2::cpu::int8::MNV2_ISA
