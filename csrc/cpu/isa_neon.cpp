#define MNV2_ISA neon

#include "cpu/simd/neon.h"
//
#include "cpu/isa-inl.h"
#include "cpu/isa.h"
#include "cpu/pointwise_registers-inl.h"

namespace mnv2::cpu {

const Kernels neon_kernels = neon::make_kernels("neon", Isa::neon);

}  // namespace mnv2::cpu
