// float32 on Armv8.0.
#pragma once

#include "cpu/simd/neon_float32-inl.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

using Stored = float;  // the type of blocked activations
// Of tiles one and two vectors wide: 14 and 20 accumulators, a vector of depths for each row, the weights: two vectors wide
// all thirty-two registers. Four pipes of four cycles are busy from 16 accumulators on, which tiles of nearly equal height
// have from 8 rows on. V2's sizes leave 9 or 10.
constexpr int tile_rows[] = {14, 10};

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
