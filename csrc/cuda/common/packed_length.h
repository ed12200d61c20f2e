// The length of packed weights tells their type, so that no launch has to read them first.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "core/sizes.h"

namespace mnv2::cuda {

// Room for that many bytes, and an odd number of bytes more for each type.
constexpr int64_t packed_length(int64_t bytes, ScalarType type)
{
    constexpr int64_t unit = 256;
    return round_up(bytes, unit) + 2 * static_cast<int64_t>(type) + 1;
}

}  // namespace mnv2::cuda
