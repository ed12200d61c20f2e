#define MNV2_ISA neon_dotprod

#include "cpu/int8/isa/isa.h"
#include "cpu/int8/simd/load_row-inl.h"
#include "cpu/int8/simd/neon/dotprod-inl.h"
#include "cpu/int8/simd/peak-inl.h"

namespace mnv2::cpu::int8 {
namespace neon_dotprod {
namespace {

struct Dot {
    using Vec = int32x4_t;
    static constexpr int products = 16;

    static MNV2_INLINE Vec splat(int32_t value) { return vdupq_n_s32(value); }
    static MNV2_INLINE void step(Vec& sum, Vec x, Vec weights)
    {
        sum = vdotq_s32(sum, vreinterpretq_s8_s32(x), vreinterpretq_s8_s32(weights));
    }
    static MNV2_INLINE int32_t first(Vec sum) { return vgetq_lane_s32(sum, 0); }
};

}  // namespace
}  // namespace neon_dotprod

const Kernels neon_dotprod_kernels{
    format_of(Isa::neon_dotprod), neon_dotprod::pointwise, neon_dotprod::linear, neon_dotprod::depthwise,
    neon_dotprod::stem,           neon_dotprod::load_row,  neon_dotprod::pool,   neon_dotprod::burst_of<neon_dotprod::Dot>};

}  // namespace mnv2::cpu::int8
