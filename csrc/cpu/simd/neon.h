// float32 on Armv8.0.
#pragma once

#include "cpu/simd/neon_float32-inl.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

using Stored = float;  // the type of blocked activations
// One and two vectors wide, tiles have 14 and 20 accumulators, and a vector of depths for each pixel beside the weights: two
// vectors wide all thirty-two registers. Four pipes of four cycles are busy from 16 accumulators on, which is 8 pixels; V2's
// sizes leave tiles of 9 or 10.
constexpr int max_mr[] = {14, 10};

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
