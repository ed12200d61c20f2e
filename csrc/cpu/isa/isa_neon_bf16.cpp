#define MNV2_ISA neon_bf16

#include "cpu/simd/neon_bf16.h"
//
#include "cpu/generic/pointwise/sums_bfmmla-inl.h"
//
#include "cpu/generic/pointwise/registers-inl.h"
#include "cpu/isa/isa-inl.h"
#include "cpu/isa/isa.h"

namespace mnv2::cpu {

const Kernels neon_bf16_kernels = neon_bf16::make_kernels<Isa::neon_bf16>();

}  // namespace mnv2::cpu
