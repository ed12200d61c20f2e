#define MNV2_ISA avx_vnni

#include "cpu/int8/isa/isa.h"
#include "cpu/int8/simd/x86/avx_vnni_tiles-inl.h"
//
#include "cpu/int8/simd/load_row-inl.h"
#include "cpu/int8/simd/x86/depthwise_bytes-inl.h"

namespace mnv2::cpu::int8 {

static_assert(format_of(Isa::avx_vnni).vector_lanes == avx_vnni::register_lanes);
static_assert(format_of(Isa::avx_vnni).group == avx_vnni::group);
static_assert(format_of(Isa::avx_vnni).depths == avx_vnni::step_depths);

const Kernels avx_vnni_kernels{format_of(Isa::avx_vnni), avx_vnni::pointwise, avx_vnni::linear, avx_vnni::depthwise,
                               avx_vnni::stem,           avx_vnni::load_row,  avx_vnni::pool};

}  // namespace mnv2::cpu::int8
