// The three number formats by their definitions, without the bit tricks of the code under test.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "core/block.h"

namespace mnv2::test {

struct Format {
    int fraction_bits;
    int least_exponent;  // of normal numbers
    double largest;
};

inline Format format_of(ScalarType type)
{
    switch (type) {
        case ScalarType::float16: return {10, -14, 65504.0};
        case ScalarType::bfloat16: return {7, -126, 0x1.fep127};
        case ScalarType::float32: break;
    }
    return {23, -126, std::numeric_limits<float>::max()};
}

// The format's number nearest to value, of two equally near ones the even one; infinity from half a step past the largest.
inline double round_to(ScalarType type, double value)
{
    if (!std::isfinite(value) || value == 0.0) return value;
    const Format format = format_of(type);
    int exponent;
    std::frexp(value, &exponent);  // value = fraction * 2^exponent, fraction in [0.5, 1)
    const double step = std::ldexp(1.0, std::max(exponent - 1, format.least_exponent) - format.fraction_bits);
    const double rounded = std::nearbyint(value / step) * step;
    return std::fabs(rounded) > format.largest ? std::copysign(INFINITY, value) : rounded;
}

// The value of a 16-bit pattern.
inline double decode(ScalarType type, uint16_t bits)
{
    const Format format = format_of(type);
    const int exponent_bits = 15 - format.fraction_bits, fraction = bits & ((1 << format.fraction_bits) - 1);
    const int exponent = bits >> format.fraction_bits & ((1 << exponent_bits) - 1);
    double magnitude;
    if (exponent == (1 << exponent_bits) - 1)
        magnitude = fraction ? NAN : INFINITY;
    else if (exponent == 0)
        magnitude = std::ldexp(fraction, format.least_exponent - format.fraction_bits);
    else
        magnitude =
            std::ldexp((1 << format.fraction_bits) + fraction, format.least_exponent + exponent - 1 - format.fraction_bits);
    return bits & 0x8000 ? -magnitude : magnitude;
}

// The 16-bit pattern of a value that the format holds.
inline uint16_t encode(ScalarType type, double value)
{
    const Format format = format_of(type);
    const int exponent_bits = 15 - format.fraction_bits, sign = std::signbit(value) ? 0x8000 : 0;
    const int infinity = ((1 << exponent_bits) - 1) << format.fraction_bits;
    if (std::isnan(value)) return static_cast<uint16_t>(sign | infinity | 1 << (format.fraction_bits - 1));
    if (std::isinf(value)) return static_cast<uint16_t>(sign | infinity);
    if (value == 0.0) return static_cast<uint16_t>(sign);
    int exponent;
    std::frexp(value, &exponent);
    const int scale = std::max(exponent - 1, format.least_exponent);
    // A normal number's leading one adds 1 to the exponent field, which therefore starts one lower.
    const auto fraction = static_cast<int>(std::ldexp(std::fabs(value), format.fraction_bits - scale));
    return static_cast<uint16_t>(sign | (((scale - format.least_exponent) << format.fraction_bits) + fraction));
}

inline double load_number(ScalarType type, const void* from, int64_t index)
{
    if (type == ScalarType::float32) {
        float value;
        std::memcpy(&value, static_cast<const char*>(from) + 4 * index, sizeof value);
        return value;
    }
    uint16_t bits;
    std::memcpy(&bits, static_cast<const char*>(from) + 2 * index, sizeof bits);
    return decode(type, bits);
}

// Rounds where the format does not hold the value.
inline void store_number(ScalarType type, double value, void* to, int64_t index)
{
    if (type == ScalarType::float32) {
        const auto number = static_cast<float>(value);
        std::memcpy(static_cast<char*>(to) + 4 * index, &number, sizeof number);
    } else {
        const uint16_t bits = encode(type, round_to(type, value));
        std::memcpy(static_cast<char*>(to) + 2 * index, &bits, sizeof bits);
    }
}

inline const char* name_of(ScalarType type)
{
    return scalar_type_name(type);
}

}  // namespace mnv2::test
