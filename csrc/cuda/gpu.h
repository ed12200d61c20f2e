// What plans and launches ask of a GPU.
#pragma once

#include <cstdint>

namespace mnv2::cuda {

struct Gpu {
    int32_t sm_count;
    int32_t capability;         // 80 is 8.0
    int64_t shared_bytes;       // the most that a thread block can have
    int32_t code = capability;  // capability that its code was compiled for: newer GPUs may run older PTX; 0: no code runs
};

}  // namespace mnv2::cuda
