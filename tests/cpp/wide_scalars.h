// The portable vector with as many lanes and registers as AVX2 and AVX-512 have: their blocking, on any machine.
#pragma once

#include "cpu/kernels.h"

namespace mnv2::test {

extern const cpu::Kernels scalar8_kernels, scalar16_kernels;

}  // namespace mnv2::test
