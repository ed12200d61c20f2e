// Depthwise rows of every NEON instruction set, sixteen channels at a time. An instruction set defines, before it includes this
// file, its format, Column (a column of a window as it is multiplied), Weights (of one), load_column(run, at),
// load_weights(packed), start(starts) and add(sums, x, weights).
#pragma once

#include "cpu/int8/simd/neon/registers-inl.h"

namespace mnv2::cpu::int8::MNV2_ISA {
namespace {

// A column is loaded once and serves three results, with stride 2 one or two.
template <int STRIDE>
__attribute__((noinline)) void depthwise_rows(const DepthwiseRun& run, int64_t first)
{
    const float* const m = factors_of(run.packed) + first;
    const auto* const starts = reinterpret_cast<const int32_t*>(m + 2 * run.width);
    const auto* const packed = reinterpret_cast<const int8_t*>(run.packed + factor_bytes(2, run.width, format)) + 4 * first;
    Weights weights[kernel_size];
    MNV2_UNROLL
    for (int64_t kx = 0; kx < kernel_size; ++kx) weights[kx] = load_weights(packed + 4 * kx * run.width);
    const auto load_at = [&](int64_t column)
                             __attribute__((always_inline)) { return load_column(run, column * run.width + first); };
    const auto started = [&](const Column& x) __attribute__((always_inline)) {
        Four sums = start(starts);
        add(sums, x, weights[0]);
        return sums;
    };
    const auto finish = [&](const Four& sums, int64_t column) __attribute__((always_inline)) {
        const auto y = [&](int j) __attribute__((always_inline)) {
            return scaled(sums.at[j], m + lanes * j, m + run.width + lanes * j);
        };
        vst1q_u8(run.y + column * run.width + first, vcombine_u8(to_bytes(y(0), y(1)), to_bytes(y(2), y(3))));
    };
    Four sums = started(load_at(0));
    if constexpr (STRIDE == 2) {
        for (int64_t column = 0; column < run.columns; ++column) {
            add(sums, load_at(2 * column + 1), weights[1]);
            const Column x = load_at(2 * column + 2);
            add(sums, x, weights[2]);
            finish(sums, column);
            sums = started(x);
        }
        return;
    }
    Column x = load_at(1);
    add(sums, x, weights[1]);
    Four next = started(x);
    for (int64_t column = 0; column < run.columns; ++column) {
        x = load_at(column + 2);
        add(sums, x, weights[2]);
        finish(sums, column);
        sums = next;
        add(sums, x, weights[1]);
        next = started(x);
    }
}

void depthwise(const DepthwiseRun& run)
{
    for (int64_t first = 0; first < run.width; first += register_bytes)
        run.stride == 1 ? depthwise_rows<1>(run, first) : depthwise_rows<2>(run, first);
}

}  // namespace
}  // namespace mnv2::cpu::int8::MNV2_ISA
