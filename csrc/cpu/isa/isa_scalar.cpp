#define MNV2_ISA scalar

#include "cpu/simd/scalar.h"
//
#include "cpu/generic/pointwise/registers-inl.h"
#include "cpu/isa/isa-inl.h"
#include "cpu/isa/isa.h"

namespace mnv2::cpu {

const Kernels scalar_kernels = scalar::make_kernels<Isa::scalar>();

}  // namespace mnv2::cpu
