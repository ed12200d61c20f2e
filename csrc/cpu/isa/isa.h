// The tables that isa_<isa>.cpp define. MNV2_HAVE_<ISA> is 1 where the build compiles one, else 0 (CMakeLists.txt).
#pragma once

#include "cpu/kernels.h"

namespace mnv2::cpu {

extern const Kernels scalar_kernels;
extern const Kernels avx2_kernels;
extern const Kernels avx512_kernels;
extern const Kernels avx512_bf16_kernels;
extern const Kernels amx_bf16_kernels;
extern const Kernels neon_kernels;
extern const Kernels neon_fp16_kernels;
extern const Kernels neon_bf16_kernels;

}  // namespace mnv2::cpu
