// bfloat16 tensors on processors with BFMMLA; everything but the pointwise layers is float32.
#pragma once

#include "cpu/simd/neon_float32-inl.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

using Stored = BFloat16;  // the type of blocked activations
// One and two vectors wide, tiles have 20 and 24 accumulators of 2 x 2 sums, a register for each pair of pixels, and one for a
// pair of channels.
constexpr int max_mr[] = {20, 12};

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
