// A thread's own scratch memory.
#pragma once

#include <cstdint>

namespace mnv2::cpu {

// At least so many bytes, aligned to a cache line, the same ones for every call of a thread until it asks for more; null
// where there is no memory. Contents are left over from earlier calls.
float* thread_scratch(int64_t bytes);

}  // namespace mnv2::cpu
