#define MNV2_ISA scalar16
#define MNV2_SCALAR_LANES 16
#define MNV2_SCALAR_REGISTERS 32

#include "cpu/simd/scalar.h"
//
#include "cpu/generic/pointwise/registers-inl.h"
#include "cpu/generic/pointwise/two_depth-inl.h"
#include "cpu/isa/isa-inl.h"
#include "wide_scalars.h"

namespace mnv2::test {

const cpu::Kernels scalar16_kernels = cpu::scalar16::make_kernels("scalar16", Isa::scalar);

}  // namespace mnv2::test
