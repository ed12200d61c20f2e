#define MNV2_ISA scalar8
#define MNV2_SCALAR_LANES 8

#include "cpu/simd/scalar.h"
//
#include "cpu/generic/pointwise/registers-inl.h"
#include "cpu/isa/isa-inl.h"
#include "wide_scalars.h"

namespace mnv2::test {

const cpu::Kernels scalar8_kernels = cpu::scalar8::make_kernels("scalar8", Isa::scalar);

}  // namespace mnv2::test
