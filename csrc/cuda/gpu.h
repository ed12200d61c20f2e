// What plans and launches ask of a GPU.
#pragma once

#include <cstdint>

namespace mnv2::cuda {

struct Gpu {
    int32_t sm_count;
    int32_t capability;         // 80 is 8.0
    int64_t shared_bytes;       // the most that a thread block can have
    int32_t code = capability;  // what it runs was compiled for this: newer GPUs may run older ones' PTX; 0: nothing runs
};

}  // namespace mnv2::cuda
