#define MNV2_ISA avx512_bf16

#include "cpu/simd/avx512_bf16.h"
//
#include "cpu/generic/pointwise/sums_vdpbf16-inl.h"
//
#include "cpu/generic/pointwise/registers-inl.h"
#include "cpu/isa/isa-inl.h"
#include "cpu/isa/isa.h"

namespace mnv2::cpu {

const Kernels avx512_bf16_kernels = avx512_bf16::make_kernels<Isa::avx512_bf16>();

}  // namespace mnv2::cpu
