// bfloat16 tensors on processors with BFMMLA; everything but the pointwise layers is float32.
#pragma once

#include "cpu/simd/neon_float32-inl.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

using Stored = BFloat16;  // the type of blocked activations
// Two vectors wide: 24 accumulators of 2 x 2 sums, 6 pairs of pixels and a pair of channels.
constexpr int tile_rows[] = {12, 12};

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
