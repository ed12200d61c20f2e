// When tiles fetch the weights that come next, by instruction set (benchmarks/NOTES.md).
#pragma once

#include <cstdint>

namespace mnv2::cpu {

enum class FetchAhead { never, on_intel, always };

// Whether this processor's tiles fetch the next panel, where a panel has this number of tiles.
bool is_now(FetchAhead when, int64_t tiles);

}  // namespace mnv2::cpu
