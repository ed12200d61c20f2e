// avx_vnni's kernels by AVX-512's encoding of the same instruction, for processors that have no other.
#define MNV2_ISA avx_vnni_evex

#include "cpu/int8/simd/x86/avx_vnni_tiles-inl.h"
//
#include "cpu/int8/simd/load_row-inl.h"
#include "cpu/int8/simd/x86/depthwise_bytes-inl.h"
#include "int8_other_builds.h"

namespace mnv2::test {

namespace kernels = cpu::int8::avx_vnni_evex;

const cpu::int8::Kernels avx_vnni_evex{cpu::int8::format_of(cpu::int8::Isa::avx_vnni),
                                       kernels::pointwise,
                                       kernels::linear,
                                       kernels::depthwise,
                                       kernels::stem,
                                       kernels::load_row,
                                       kernels::pool,
                                       nullptr};

}  // namespace mnv2::test
