#define MNV2_ISA neon

#include "cpu/simd/neon.h"
//
#include "cpu/generic/pointwise/registers-inl.h"
#include "cpu/isa/isa-inl.h"
#include "cpu/isa/isa.h"

namespace mnv2::cpu {

const Kernels neon_kernels = neon::make_kernels<Isa::neon>();

}  // namespace mnv2::cpu
