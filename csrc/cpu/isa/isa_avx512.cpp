#define MNV2_ISA avx512

#include "cpu/simd/avx512.h"
//
#include "cpu/generic/pointwise/registers-inl.h"
#include "cpu/generic/pointwise/two_depth-inl.h"
#include "cpu/isa/isa-inl.h"
#include "cpu/isa/isa.h"

namespace mnv2::cpu {

const Kernels avx512_kernels = avx512::make_kernels<Isa::avx512>();

}  // namespace mnv2::cpu
