// The tables that int8/isa/isa_<isa>.cpp define, as far as they are compiled.
#pragma once

#include "cpu/int8/kernels.h"

// Defined by the build where the file is compiled.
#ifndef MNV2_HAVE_AVX2
#define MNV2_HAVE_AVX2 0
#endif
#ifndef MNV2_HAVE_AVX512_VNNI
#define MNV2_HAVE_AVX512_VNNI 0
#endif
#ifndef MNV2_HAVE_NEON_DOTPROD
#define MNV2_HAVE_NEON_DOTPROD 0
#endif

namespace mnv2::cpu::int8 {

extern const Kernels scalar_kernels;
extern const Kernels avx2_kernels;
extern const Kernels avx512_vnni_kernels;
extern const Kernels neon_dotprod_kernels;

}  // namespace mnv2::cpu::int8
