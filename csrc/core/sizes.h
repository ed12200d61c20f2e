// Rounding up, for sizes and strides.
#pragma once

#include <cstdint>
#include <type_traits>

namespace mnv2 {

template <class Value, class Divisor>
constexpr std::common_type_t<Value, Divisor> divide_up(Value value, Divisor divisor)
{
    return (value + divisor - 1) / divisor;
}

template <class Value, class Multiple>
constexpr std::common_type_t<Value, Multiple> round_up(Value value, Multiple multiple)
{
    return divide_up(value, multiple) * multiple;
}

}  // namespace mnv2
