// The sums of a tile in halves: runs of run_depth depths in float16, which float32 sums then take. A file of its own: an
// accumulator's eight halves become two vectors of floats.
#pragma once

#include <arm_neon.h>

#include <cstdint>

#include "cpu/generic/pointwise/sums-inl.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

// The largest error of a trained network's logits on eight photographs is 1.27 times that of torch's float16 layers with runs
// of 16, and 2.22 times with 32, which breaks the twofold rule.
constexpr int64_t run_depth = 16;

template <int MR, int VECTORS>
struct HalfSums {
    float16x8_t at[MR][VECTORS];
};

MNV2_INLINE float16x8_t load_halves(const Half* p)
{
    return vreinterpretq_f16_u16(vld1q_u16(&p->bits));
}

// sums += depths K, K + 1, ... of the pixels' eight. FMLA takes a lane only from one of the first sixteen registers.
template <int K, int MR, int VECTORS>
MNV2_INLINE void add_lanes(HalfSums<MR, VECTORS>& sums, const float16x8_t (&x)[MR], const Half* weights)
{
    if constexpr (K < lanes) {
        float16x8_t w[VECTORS];
        MNV2_UNROLL
        for (int v = 0; v < VECTORS; ++v) w[v] = load_halves(weights + v * lanes);
        // Tied by hand: by intrinsics GCC copies accumulators and spills.
        MNV2_UNROLL
        for (int v = 0; v < VECTORS; ++v) MNV2_UNROLL
        for (int r = 0; r < MR; ++r)
            __asm__("fmla %0.8h, %1.8h, %2.h[%3]" : "+w"(sums.at[r][v]) : "w"(w[v]), "x"(x[r]), "i"(K));
        add_lanes<K + 1>(sums, x, weights + VECTORS * lanes);
    }
}

// The float32 sums, in memory: they are touched once a run.
template <int MR, int VECTORS>
class WideSums {
public:
    // The compiler is not to see where at_ points, or it moves some of the array to registers that the tile needs.
    MNV2_INLINE WideSums() : at_(&memory_[0][0][0]) { MNV2_OPAQUE(at_); }

    MNV2_INLINE void take(const HalfSums<MR, VECTORS>& run, bool first)
    {
        MNV2_UNROLL
        for (int r = 0; r < MR; ++r) MNV2_UNROLL
        for (int v = 0; v < VECTORS; ++v) {
            float* to = at_ + (r * VECTORS + v) * lanes;
            const Vec sum = widen(run.at[r][v]);
            store(to, first ? sum : add(load(to), sum));
        }
    }

    MNV2_INLINE void give(Accumulators<MR, VECTORS>& sums) const
    {
        MNV2_UNROLL
        for (int r = 0; r < MR; ++r) MNV2_UNROLL
        for (int v = 0; v < VECTORS; ++v) sums.at[r][v] = load(at_ + (r * VECTORS + v) * lanes);
    }

private:
    alignas(64) float memory_[MR][VECTORS][lanes];
    float* at_;
};

// run += the pixels' eight depths, or the first `depth`: behind these, weights are zero, but pixels may hold anything.
template <bool IS_WHOLE, int MR, int VECTORS>
MNV2_INLINE void add_vector(HalfSums<MR, VECTORS>& run, int64_t depth, const Half* x, const Half* weights)
{
    constexpr uint16_t positions[] = {0, 1, 2, 3, 4, 5, 6, 7};
    float16x8_t pixels[MR];
    MNV2_UNROLL
    for (int r = 0; r < MR; ++r) {
        pixels[r] = load_halves(x + r * lanes);
        // Early, or GCC gives those registers to accumulators and copies a pixel for every multiply-add.
        __asm__("" : "+x"(pixels[r]));
        if constexpr (!IS_WHOLE) {
            const uint16x8_t is_used = vcltq_u16(vld1q_u16(positions), vdupq_n_u16(static_cast<uint16_t>(depth)));
            pixels[r] = vreinterpretq_f16_u16(vandq_u16(vreinterpretq_u16_f16(pixels[r]), is_used));
        }
    }
    add_lanes<0>(run, pixels, weights);
}

template <int MR, int VECTORS>
MNV2_INLINE void add_run(HalfSums<MR, VECTORS>& run, int64_t depth, int64_t x_plane, const Half*& x, const Half*& weights)
{
    MNV2_UNROLL
    for (int r = 0; r < MR; ++r) MNV2_UNROLL
    for (int v = 0; v < VECTORS; ++v) run.at[r][v] = vdupq_n_f16(0);
    MNV2_OPAQUE(depth);  // The compiler is not to see that a run has two vectors: it unrolls them and copies accumulators.
    for (; depth >= lanes; depth -= lanes, x += x_plane, weights += VECTORS * lanes * lanes)
        add_vector<true>(run, lanes, x, weights);
    if (depth > 0) add_vector<false>(run, depth, x, weights);
}

template <bool IS_LONG, int MR, int VECTORS>
MNV2_INLINE void sum_tile(Accumulators<MR, VECTORS>& sums, int64_t depth, int64_t x_plane, const Half* x, const float* packed,
                          const Ahead&)
{
    const auto* weights = reinterpret_cast<const Half*>(packed);
    WideSums<MR, VECTORS> wide;
    for (int64_t done = 0; done < depth; done += run_depth) {
        HalfSums<MR, VECTORS> run;
        add_run(run, smaller(depth - done, run_depth), x_plane, x, weights);
        wide.take(run, done == 0);
    }
    wide.give(sums);
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
