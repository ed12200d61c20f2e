#define MNV2_ISA avx512_vnni

#include "cpu/int8/isa/isa.h"
#include "cpu/int8/simd/x86/avx512_pointwise-inl.h"
//
#include "cpu/int8/simd/load_row-inl.h"
#include "cpu/int8/simd/x86/depthwise_bytes-inl.h"
#include "cpu/int8/simd/x86/pointwise_widths-inl.h"

namespace mnv2::cpu::int8 {

static_assert(format_of(Isa::avx512_vnni).vector_lanes == avx512_vnni::register_lanes);
static_assert(format_of(Isa::avx512_vnni).depths == avx512_vnni::step_depths);

const Kernels avx512_vnni_kernels{
    format_of(Isa::avx512_vnni), avx512_vnni::pointwise, avx512_vnni::linear, avx512_vnni::depthwise,
    avx512_vnni::stem,           avx512_vnni::load_row,  avx512_vnni::pool};

}  // namespace mnv2::cpu::int8
