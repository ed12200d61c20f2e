// amx_int8's kernels on emulated tiles; the rest of them needs AVX-512 VNNI.
#define MNV2_ISA amx_int8_emulated

#include "emulated_tiles.h"
//
#include "cpu/int8/simd/x86/amx_pointwise-inl.h"
//
#include "cpu/int8/simd/load_row-inl.h"
#include "cpu/int8/simd/x86/depthwise_bytes-inl.h"
#include "cpu/int8/simd/x86/pointwise_widths-inl.h"
#include "int8_other_builds.h"

namespace mnv2::test {

namespace kernels = cpu::int8::amx_int8_emulated;

const cpu::int8::Kernels amx_int8_emulated{cpu::int8::format_of(cpu::int8::Isa::amx_int8),
                                           kernels::pointwise,
                                           kernels::linear,
                                           kernels::depthwise,
                                           kernels::stem,
                                           kernels::load_row,
                                           kernels::pool,
                                           nullptr};

}  // namespace mnv2::test
