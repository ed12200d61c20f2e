// 16-bit floats, one at a time. Compiled once per instruction set, like everything that includes it.
#pragma once

#include <cstdint>
#include <cstring>

namespace mnv2::cpu::MNV2_ISA {
namespace {

struct Half {
    uint16_t bits;
};
struct BFloat16 {
    uint16_t bits;
};

// Where float32 has its exponent.
constexpr int exponent_shift = 23;

inline uint32_t bits_of(float value)
{
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

inline float float_of(uint32_t bits)
{
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline float to_float(float value)
{
    return value;
}

inline float to_float(BFloat16 value)
{
    return float_of(static_cast<uint32_t>(value.bits) << 16);
}

inline float to_float(Half value)
{
    const uint32_t sign = (value.bits & 0x8000u) << 16, magnitude = value.bits & 0x7fffu;
    if (magnitude >= 0x7c00u) return float_of(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);  // infinity and NaN
    if (magnitude < 0x400u) {
        const float subnormal = static_cast<float>(magnitude) * 0x1p-24f;
        return sign ? -subnormal : subnormal;
    }
    return float_of(sign | ((magnitude << 13) + (112u << 23)));  // the exponents' biases differ by 112
}

inline void from_float(float value, float* to)
{
    *to = value;
}

inline void from_float(float value, BFloat16* to)
{
    const uint32_t bits = bits_of(value);
    const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
    to->bits = static_cast<uint16_t>(is_nan ? bits >> 16 | 0x40u : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

inline void from_float(float value, Half* to)
{
    const uint32_t bits = bits_of(value), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    constexpr uint32_t infinity = 0x7f800000u, overflow = 0x477ff000u /* 65520 */, smallest_normal = 0x38800000u /* 2^-14 */;
    uint32_t half;
    if (magnitude > infinity) {
        half = 0x7e00u | (magnitude >> 13 & 0x3ffu);
    } else if (magnitude >= overflow) {
        half = 0x7c00u;
    } else if (magnitude < smallest_normal) {
        // The sum rounds to multiples of 2^-24, the distance of the smallest halves, and leaves their number in its low bits.
        half = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);
    } else {
        half = (magnitude - (112u << 23) + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
    }
    to->bits = static_cast<uint16_t>(sign | half);
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
