#define MNV2_ISA amx_int8

#include "cpu/int8/isa/isa.h"
#include "cpu/int8/simd/x86/amx_tiles-inl.h"
//
#include "cpu/int8/simd/x86/amx_pointwise-inl.h"
//
#include "cpu/int8/simd/load_row-inl.h"
#include "cpu/int8/simd/x86/depthwise_bytes-inl.h"
#include "cpu/int8/simd/x86/pointwise_widths-inl.h"

namespace mnv2::cpu::int8 {

static_assert(format_of(Isa::amx_int8).vector_lanes == amx_int8::register_lanes);
static_assert(format_of(Isa::amx_int8).depths == amx_int8::step_depths);

const Kernels amx_int8_kernels{format_of(Isa::amx_int8), amx_int8::pointwise, amx_int8::linear, amx_int8::depthwise,
                               amx_int8::stem,           amx_int8::load_row,  amx_int8::pool};

}  // namespace mnv2::cpu::int8
