#define MNV2_ISA neon_i8mm

#include "cpu/int8/isa/isa.h"
#include "cpu/int8/simd/load_row-inl.h"
#include "cpu/int8/simd/neon/i8mm-inl.h"
#include "cpu/int8/simd/peak-inl.h"

namespace mnv2::cpu::int8 {
namespace neon_i8mm {
namespace {

struct Dot {
    using Vec = int32x4_t;
    static constexpr int products = 32;

    static MNV2_INLINE Vec splat(int32_t value) { return vdupq_n_s32(value); }
    static MNV2_INLINE void step(Vec& sum, Vec x, Vec weights)
    {
        sum = vusmmlaq_s32(sum, vreinterpretq_u8_s32(x), vreinterpretq_s8_s32(weights));
    }
    static MNV2_INLINE int32_t first(Vec sum) { return vgetq_lane_s32(sum, 0); }
};

}  // namespace
}  // namespace neon_i8mm

const Kernels neon_i8mm_kernels{
    format_of(Isa::neon_i8mm), neon_i8mm::pointwise, neon_i8mm::linear, neon_i8mm::depthwise,
    neon_i8mm::stem,           neon_i8mm::load_row,  neon_i8mm::pool,   neon_i8mm::burst_of<neon_i8mm::Dot>};

}  // namespace mnv2::cpu::int8
