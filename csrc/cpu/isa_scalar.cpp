#define MNV2_ISA scalar

#include "cpu/simd/scalar.h"
//
#include "cpu/isa-inl.h"
#include "cpu/isa.h"
#include "cpu/pointwise_registers-inl.h"

namespace mnv2::cpu {

const Kernels scalar_kernels = scalar::make_kernels("scalar", Isa::scalar);

}  // namespace mnv2::cpu
