#define MNV2_ISA neon_dotprod

#include "cpu/int8/isa/isa.h"
#include "cpu/int8/simd/load_row-inl.h"
#include "cpu/int8/simd/neon/dotprod-inl.h"

namespace mnv2::cpu::int8 {

const Kernels neon_dotprod_kernels{
    format_of(Isa::neon_dotprod), neon_dotprod::pointwise, neon_dotprod::linear, neon_dotprod::depthwise,
    neon_dotprod::stem,           neon_dotprod::load_row,  neon_dotprod::pool};

}  // namespace mnv2::cpu::int8
