#define MNV2_ISA neon

#include "cpu/int8/isa/isa.h"
#include "cpu/int8/simd/load_row-inl.h"
#include "cpu/int8/simd/neon/smull-inl.h"
#include "cpu/int8/simd/peak-inl.h"

namespace mnv2::cpu::int8 {
namespace neon {
namespace {

struct Dot {
    using Vec = int32x4_t;
    static constexpr int products = 16;

    static MNV2_INLINE Vec splat(int32_t value) { return vdupq_n_s32(value); }
    static MNV2_INLINE void step(Vec& sum, Vec& x, Vec weights)
    {
        // Products of their own for each chain: the compiler would compute them once for all.
        __asm__("" : "+w"(x));
        const int8x16_t bytes = vreinterpretq_s8_s32(x), of = vreinterpretq_s8_s32(weights);
        const int16x8_t products = vmull_s8(vget_low_s8(bytes), vget_low_s8(of));
        sum = vpadalq_s16(sum, vmlsl_high_s8(products, bytes, of));
    }
    static MNV2_INLINE int32_t first(Vec sum) { return vgetq_lane_s32(sum, 0); }
};

}  // namespace
}  // namespace neon

const Kernels neon_kernels{format_of(Isa::neon), neon::pointwise, neon::linear, neon::depthwise,
                           neon::stem,           neon::load_row,  neon::pool,   neon::burst_of<neon::Dot>};

}  // namespace mnv2::cpu::int8
