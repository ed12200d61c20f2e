// The peak of products of bytes: what a profile divides by.
#pragma once

#include <cstdint>

#include "cpu/simd/macros.h"

namespace mnv2::cpu::int8::MNV2_ISA {
namespace {

// More chains than latency times pipes on every core known; with two operands they fit in sixteen registers.
constexpr int peak_chains = 12;

// Independent sums of products in registers; returns how many operations (two each) it did. Dot has Vec, the products of a step
// and step(sum, x, weights). The sums go to *sink so that the compiler cannot drop them.
template <class Dot>
MNV2_INLINE double burst_of(int64_t rounds, int32_t* sink)
{
    typename Dot::Vec sums[peak_chains], x = Dot::splat(sink[0]), weights = Dot::splat(sink[1]);
    MNV2_UNROLL
    for (int i = 0; i < peak_chains; ++i) sums[i] = Dot::splat(i);
    for (int64_t round = 0; round < rounds; ++round) MNV2_UNROLL
    for (int i = 0; i < peak_chains; ++i) Dot::step(sums[i], x, weights);
    MNV2_UNROLL
    for (int i = 0; i < peak_chains; ++i) sink[2] += Dot::first(sums[i]);
    return 2.0 * peak_chains * Dot::products * static_cast<double>(rounds);
}

}  // namespace
}  // namespace mnv2::cpu::int8::MNV2_ISA
