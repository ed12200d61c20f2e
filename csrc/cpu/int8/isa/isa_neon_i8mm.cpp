#define MNV2_ISA neon_i8mm

#include "cpu/int8/isa/isa.h"
#include "cpu/int8/simd/load_row-inl.h"
#include "cpu/int8/simd/neon/i8mm-inl.h"

namespace mnv2::cpu::int8 {

const Kernels neon_i8mm_kernels{format_of(Isa::neon_i8mm), neon_i8mm::pointwise, neon_i8mm::linear, neon_i8mm::depthwise,
                                neon_i8mm::stem,           neon_i8mm::load_row,  neon_i8mm::pool};

}  // namespace mnv2::cpu::int8
