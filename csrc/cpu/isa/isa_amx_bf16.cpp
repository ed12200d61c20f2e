#define MNV2_ISA amx_bf16

#include "cpu/simd/amx_bf16.h"
//
#include "cpu/generic/pointwise/amx-inl.h"
#include "cpu/isa/isa-inl.h"
#include "cpu/isa/isa.h"

namespace mnv2::cpu {

const Kernels amx_bf16_kernels = amx_bf16::make_kernels<Isa::amx_bf16>();

}  // namespace mnv2::cpu
