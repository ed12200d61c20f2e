#define MNV2_ISA amx_bf16

#include "cpu/simd/amx_bf16.h"
//
#include "cpu/isa-inl.h"
#include "cpu/isa.h"
#include "cpu/pointwise_amx-inl.h"

namespace mnv2::cpu {

const Kernels amx_bf16_kernels = amx_bf16::make_kernels("amx_bf16", Isa::amx_bf16);

}  // namespace mnv2::cpu
