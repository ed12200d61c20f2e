// The tables that isa_<isa>.cpp define, as far as they are compiled.
#pragma once

#include "cpu/kernels.h"

// Set to 1 by the build where the file is compiled.
#ifndef MNV2_HAVE_AVX2
#define MNV2_HAVE_AVX2 0
#endif
#ifndef MNV2_HAVE_AVX512
#define MNV2_HAVE_AVX512 0
#endif
#ifndef MNV2_HAVE_AVX512_BF16
#define MNV2_HAVE_AVX512_BF16 0
#endif
#ifndef MNV2_HAVE_AMX_BF16
#define MNV2_HAVE_AMX_BF16 0
#endif
#ifndef MNV2_HAVE_NEON
#define MNV2_HAVE_NEON 0
#endif
#ifndef MNV2_HAVE_NEON_FP16
#define MNV2_HAVE_NEON_FP16 0
#endif
#ifndef MNV2_HAVE_NEON_BF16
#define MNV2_HAVE_NEON_BF16 0
#endif

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
