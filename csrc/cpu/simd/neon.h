// float32 on Armv8.0.
#pragma once

#include "cpu/simd/neon_float32-inl.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

using Stored = float;  // the type of blocked activations
// Of tiles one and two vectors wide: 14 accumulators, a vector of depths for each row, the weights. V2's sizes are multiples
// of 7.
constexpr int tile_rows[] = {14, 7};

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
