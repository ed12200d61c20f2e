#define MNV2_ISA scalar16
#define MNV2_SCALAR_LANES 16
#define MNV2_SCALAR_REGISTERS 32

#include "cpu/simd/scalar.h"
//
#include "cpu/isa-inl.h"
#include "cpu/pointwise_registers-inl.h"
#include "cpu/two_depth_tiles-inl.h"
#include "wide_scalars.h"

namespace mnv2::test {

const cpu::Kernels scalar16_kernels = cpu::scalar16::make_kernels("scalar16", Isa::scalar);

}  // namespace mnv2::test
