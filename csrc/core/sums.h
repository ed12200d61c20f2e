// How long sums are cut into runs, on every device.
#pragma once

#include <cstdint>

namespace mnv2 {

// From long_depth on, sums are moved to a second accumulator every sum_depth depths: the error then grows with the run's
// length, not with the depth's. Without it some layers miss the accuracy promise.
constexpr int64_t long_depth = 192;
constexpr int64_t sum_depth = 96;

}  // namespace mnv2
