#define MNV2_ISA avx_vnni

#include "cpu/int8/isa/isa.h"
#include "cpu/int8/simd/x86/avx_vnni_tiles-inl.h"
//
#include "cpu/int8/simd/load_row-inl.h"
#include "cpu/int8/simd/peak-inl.h"
#include "cpu/int8/simd/x86/depthwise_bytes-inl.h"

namespace mnv2::cpu::int8 {
namespace avx_vnni {
namespace {

struct Dot {
    using Vec = __m256i;
    static constexpr int products = 32;

    static MNV2_INLINE Vec splat(int32_t value) { return _mm256_set1_epi32(value); }
    static MNV2_INLINE void step(Vec& sum, Vec x, Vec weights) { dot(sum, x, weights); }
    static MNV2_INLINE int32_t first(Vec sum) { return _mm256_cvtsi256_si32(sum); }
};

}  // namespace
}  // namespace avx_vnni

static_assert(format_of(Isa::avx_vnni).vector_lanes == avx_vnni::register_lanes);
static_assert(format_of(Isa::avx_vnni).group == avx_vnni::group);
static_assert(format_of(Isa::avx_vnni).depths == avx_vnni::step_depths);

const Kernels avx_vnni_kernels{
    format_of(Isa::avx_vnni), avx_vnni::pointwise, avx_vnni::linear, avx_vnni::depthwise,
    avx_vnni::stem,           avx_vnni::load_row,  avx_vnni::pool,   avx_vnni::burst_of<avx_vnni::Dot>};

}  // namespace mnv2::cpu::int8
