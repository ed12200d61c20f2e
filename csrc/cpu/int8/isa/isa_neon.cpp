#define MNV2_ISA neon

#include "cpu/int8/isa/isa.h"
#include "cpu/int8/simd/load_row-inl.h"
#include "cpu/int8/simd/neon/smull-inl.h"

namespace mnv2::cpu::int8 {

const Kernels neon_kernels{format_of(Isa::neon), neon::pointwise, neon::linear, neon::depthwise,
                           neon::stem,           neon::load_row,  neon::pool};

}  // namespace mnv2::cpu::int8
