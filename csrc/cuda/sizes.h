// Sizes that the kernels' host code computes with.
#pragma once

#include <cstdint>
#include <type_traits>

namespace mnv2::cuda {

constexpr int64_t max_shared_bytes = 160 << 10;  // of a thread block on sm_80, with room to spare

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

}  // namespace mnv2::cuda
