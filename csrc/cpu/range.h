// Consecutive rows, pixels, vectors or channels.
#pragma once

#include <cstdint>

namespace mnv2::cpu {

struct Range {
    int64_t begin, end;

    constexpr int64_t count() const { return end - begin; }
};

}  // namespace mnv2::cpu
