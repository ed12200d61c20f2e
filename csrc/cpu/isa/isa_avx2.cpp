#define MNV2_ISA avx2

#include "cpu/simd/avx2.h"
//
#include "cpu/generic/pointwise/registers-inl.h"
#include "cpu/isa/isa-inl.h"
#include "cpu/isa/isa.h"

namespace mnv2::cpu {

const Kernels avx2_kernels = avx2::make_kernels<Isa::avx2>();

}  // namespace mnv2::cpu
