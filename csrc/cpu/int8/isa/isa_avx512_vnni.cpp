#define MNV2_ISA avx512_vnni

#include "cpu/int8/isa/isa.h"
#include "cpu/int8/simd/x86/avx512_pointwise-inl.h"
//
#include "cpu/int8/simd/load_row-inl.h"
#include "cpu/int8/simd/peak-inl.h"
#include "cpu/int8/simd/x86/depthwise_bytes-inl.h"
#include "cpu/int8/simd/x86/pointwise_widths-inl.h"

namespace mnv2::cpu::int8 {
namespace avx512_vnni {
namespace {

struct Dot {
    using Vec = __m512i;
    static constexpr int products = 64;

    static MNV2_INLINE Vec splat(int32_t value) { return _mm512_set1_epi32(value); }
    static MNV2_INLINE void step(Vec& sum, Vec x, Vec weights) { dot(sum, x, weights); }
    static MNV2_INLINE int32_t first(Vec sum) { return _mm512_cvtsi512_si32(sum); }
};

}  // namespace
}  // namespace avx512_vnni

static_assert(format_of(Isa::avx512_vnni).vector_lanes == avx512_vnni::register_lanes);
static_assert(format_of(Isa::avx512_vnni).depths == avx512_vnni::step_depths);

const Kernels avx512_vnni_kernels{
    format_of(Isa::avx512_vnni), avx512_vnni::pointwise, avx512_vnni::linear, avx512_vnni::depthwise,
    avx512_vnni::stem,           avx512_vnni::load_row,  avx512_vnni::pool,   avx512_vnni::burst_of<avx512_vnni::Dot>};

}  // namespace mnv2::cpu::int8
