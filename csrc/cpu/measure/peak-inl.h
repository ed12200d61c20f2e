// The multiply-add peak, by which every other figure is divided.
#pragma once

#include <cstdint>

#include "cpu/simd/macros.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

// More chains than latency times pipes on every core known, and few enough for sixteen registers.
constexpr int peak_chains = 12;

// Independent multiply-adds in registers; returns how many operations (two each) it did. The sum goes to *sink so that the
// compiler cannot drop it.
double fma_burst(int64_t rounds, float* sink)
{
    Vec chains[peak_chains];
    MNV2_UNROLL
    for (int i = 0; i < peak_chains; ++i) chains[i] = splat(static_cast<float>(i));
    const Vec factor = splat(sink[0]), term = splat(sink[1]);
    for (int64_t round = 0; round < rounds; ++round) MNV2_UNROLL
    for (int i = 0; i < peak_chains; ++i) chains[i] = fma(chains[i], factor, term);
    Vec sum = chains[0];
    MNV2_UNROLL
    for (int i = 1; i < peak_chains; ++i) sum = add(sum, chains[i]);
    store_first(sink + 2, sum, 1);
    // Where a vector has several registers, the compiler drops all but the first, since nothing reads the others.
    return 2.0 * peak_chains * (lanes / vector_registers) * static_cast<double>(rounds);
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
