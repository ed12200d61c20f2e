// For instruction sets whose vectors take one register.
#pragma once

#include "cpu/simd/macros.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

using Register = Vec;
constexpr int vector_registers = 1;

MNV2_INLINE Register load_register(const float* p) { return load(p); }
MNV2_INLINE Register splat_register(float x) { return splat(x); }
MNV2_INLINE void store_register(float* p, const Register& v) { store(p, v); }

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
