// A thread's own memory.
#pragma once

#include <cstdint>

namespace mnv2::cpu {

// What a thread may hold at once.
enum class Scratch {
    task,           // what one task computes in
    depthwise_out,  // a block's depthwise results, where all are kept
    images,         // what a network's layers hand on
    vectors,        // a batch's vectors between a network's linear layers
};

// Memory for at least these bytes, aligned to a cache line, the same for every call of a thread until it asks for more; null
// where there is none. Contents are left over from earlier calls.
float* thread_scratch(Scratch use, int64_t bytes);

// The same for floats; std::bad_alloc where there is no memory.
float* scratch_or_throw(Scratch use, int64_t floats);

}  // namespace mnv2::cpu
