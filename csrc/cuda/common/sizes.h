// Sizes that the kernels' host code computes with.
#pragma once

#include <cstdint>

#include "core/sizes.h"

namespace mnv2::cuda {

constexpr int chunk_channels = 32;               // expanded channels that a thread block works on at a time
constexpr int quad_channels = 4;                 // channels that are loaded together
constexpr int64_t max_shared_bytes = 160 << 10;  // a thread block on sm_80 has 3 KiB more

}  // namespace mnv2::cuda
