#define MNV2_ISA neon_fp16

#include "cpu/simd/neon_fp16.h"
//
#include "cpu/generic/pointwise/sums_fp16-inl.h"
//
#include "cpu/generic/pointwise/registers-inl.h"
#include "cpu/isa/isa-inl.h"
#include "cpu/isa/isa.h"

namespace mnv2::cpu {

const Kernels neon_fp16_kernels = neon_fp16::make_kernels<Isa::neon_fp16>();

}  // namespace mnv2::cpu
