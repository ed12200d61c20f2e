#define MNV2_ISA avx2

#include "cpu/int8/isa/isa.h"
#include "cpu/int8/simd/load_row-inl.h"
#include "cpu/int8/simd/x86/avx2_words-inl.h"

namespace mnv2::cpu::int8 {

static_assert(format_of(Isa::avx2).vector_lanes == avx2::register_lanes);
static_assert(format_of(Isa::avx2).group == avx2::group);
static_assert(format_of(Isa::avx2).depths == avx2::step_depths);

const Kernels avx2_kernels{format_of(Isa::avx2), avx2::pointwise, avx2::linear, avx2::depthwise,
                           avx2::stem,           avx2::load_row,  avx2::pool};

}  // namespace mnv2::cpu::int8
