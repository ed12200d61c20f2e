#define MNV2_ISA avx2

#include "cpu/int8/isa/isa.h"
#include "cpu/int8/simd/load_row-inl.h"
#include "cpu/int8/simd/peak-inl.h"
#include "cpu/int8/simd/x86/avx2_words-inl.h"

namespace mnv2::cpu::int8 {
namespace avx2 {
namespace {

struct Dot {
    using Vec = __m256i;
    static constexpr int products = 16;

    static MNV2_INLINE Vec splat(int32_t value) { return _mm256_set1_epi32(value); }
    static MNV2_INLINE void step(Vec& sum, Vec& x, Vec weights)
    {
        // A product of its own for each chain: the compiler would compute one for all.
        __asm__("" : "+x"(x));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(x, weights));
    }
    static MNV2_INLINE int32_t first(Vec sum) { return _mm256_cvtsi256_si32(sum); }
};

}  // namespace
}  // namespace avx2

static_assert(format_of(Isa::avx2).vector_lanes == avx2::register_lanes);
static_assert(format_of(Isa::avx2).group == avx2::group);
static_assert(format_of(Isa::avx2).depths == avx2::step_depths);

const Kernels avx2_kernels{format_of(Isa::avx2), avx2::pointwise, avx2::linear, avx2::depthwise,
                           avx2::stem,           avx2::load_row,  avx2::pool,   avx2::burst_of<avx2::Dot>};

}  // namespace mnv2::cpu::int8
