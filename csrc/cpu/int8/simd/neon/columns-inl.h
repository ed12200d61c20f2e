// Columns of a depthwise window for dot products: each channel's bytes of three rows side by side.
#pragma once

#include "cpu/int8/simd/neon/registers-inl.h"

namespace mnv2::cpu::int8::MNV2_ISA {
namespace {

// Bytes (r0, r1, r2, r2) of a column's sixteen channels, as the instructions multiply them.
struct Bytes {
    uint8x16_t at[4];
};

// (w0, w1, w2, 0)
struct Weights {
    int8x16_t at[4];
};

MNV2_INLINE Bytes load_bytes(const DepthwiseRun& run, int64_t at)
{
    const uint8x16_t last = vld1q_u8(run.rows[2] + at), first = vld1q_u8(run.rows[0] + at), second = vld1q_u8(run.rows[1] + at);
    const auto words = [](uint8x16_t bytes) __attribute__((always_inline)) { return vreinterpretq_u16_u8(bytes); };
    const auto bytes = [](uint16x8_t zipped) __attribute__((always_inline)) { return vreinterpretq_u8_u16(zipped); };
    const uint16x8_t low = words(vzip1q_u8(first, second)), high = words(vzip2q_u8(first, second));
    const uint16x8_t low_last = words(vzip1q_u8(last, last)), high_last = words(vzip2q_u8(last, last));
    return {{bytes(vzip1q_u16(low, low_last)), bytes(vzip2q_u16(low, low_last)), bytes(vzip1q_u16(high, high_last)),
             bytes(vzip2q_u16(high, high_last))}};
}

MNV2_INLINE Weights load_weights(const int8_t* packed)
{
    Weights weights;
    MNV2_UNROLL
    for (int64_t j = 0; j < 4; ++j) weights.at[j] = vld1q_s8(packed + j * register_bytes);
    return weights;
}

}  // namespace
}  // namespace mnv2::cpu::int8::MNV2_ISA
