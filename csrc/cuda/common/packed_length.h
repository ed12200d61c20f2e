// The length of packed weights tells their format, so that no launch has to read them first.
#pragma once

#include <cstdint>

#include "core/block.h"

namespace mnv2::cuda {

enum class Format : int32_t { general_block, register_block, tile_block, stem, stem_block, head_pool, linear };

// At least `bytes`, and a number of bytes that no other format and type has.
constexpr int64_t packed_length(int64_t bytes, Format format, ScalarType type)
{
    constexpr int64_t unit = 256, types = 3;
    const int64_t tag = static_cast<int64_t>(format) * types + static_cast<int64_t>(type);
    return (bytes + unit - 1) / unit * unit + 2 * tag + 1;
}

}  // namespace mnv2::cuda
