// What plans and launches ask of a GPU.
#pragma once

#include <algorithm>
#include <cstdint>

namespace mnv2::cuda {

struct Gpu {
    int32_t sm_count;
    int32_t capability;         // 80 is 8.0
    int64_t shared_bytes;       // the most that a thread block can have
    int32_t code = capability;  // capability that its code was compiled for: newer GPUs may run older PTX; 0: no code runs
};

// Thread blocks of a kernel that run until all tiles are made: no more than the multiprocessors hold at once.
inline int64_t resident_blocks(const Gpu& gpu, int64_t blocks_per_sm, int64_t tiles)
{
    return std::min(gpu.sm_count * blocks_per_sm, tiles);
}

}  // namespace mnv2::cuda
