#define MNV2_ISA avx512

#include "cpu/simd/avx512.h"
//
#include "cpu/isa-inl.h"
#include "cpu/isa.h"
#include "cpu/pointwise_registers-inl.h"
#include "cpu/two_depth_tiles-inl.h"

namespace mnv2::cpu {

const Kernels avx512_kernels = avx512::make_kernels("avx512", Isa::avx512);

}  // namespace mnv2::cpu
