// A vector is one register: its only part.
#pragma once

#include "cpu/simd/macros.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

using Part = Vec;
constexpr int parts = 1;

MNV2_INLINE Part load_part(const float* p)
{
    return load(p);
}
MNV2_INLINE Part splat_part(float x)
{
    return splat(x);
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
