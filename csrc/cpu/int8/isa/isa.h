// The tables that int8/isa/isa_<isa>.cpp define. MNV2_HAVE_<ISA> is 1 where the build compiles one, else 0.
#pragma once

#include "cpu/int8/kernels.h"

namespace mnv2::cpu::int8 {

extern const Kernels scalar_kernels;
extern const Kernels avx2_kernels;
extern const Kernels avx_vnni_kernels;
extern const Kernels avx512_vnni_kernels;
extern const Kernels amx_int8_kernels;
extern const Kernels neon_kernels;
extern const Kernels neon_dotprod_kernels;
extern const Kernels neon_i8mm_kernels;

}  // namespace mnv2::cpu::int8
