// When tiles fetch the weights that come next, by instruction set (benchmarks/NOTES.md).
#pragma once

namespace mnv2::cpu {

enum class FetchAhead { never, on_intel, always };

// Whether that is so on this processor.
bool is_now(FetchAhead when);

}  // namespace mnv2::cpu
