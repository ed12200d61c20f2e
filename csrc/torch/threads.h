// Torch's own threads for the kernels.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <cstdint>

#include "core/parallel.h"

namespace mnv2::ops {

// Inside a parallel region of torch, parallel_for runs the body at once on the calling thread.
inline Parallel torch_threads()
{
    return {torch::stable::get_num_threads(), [](int64_t tasks, ParallelBody body, void* context) {
                torch::stable::parallel_for(0, tasks, 1, [&](int64_t begin, int64_t end) { body(context, begin, end); });
            }};
}

}  // namespace mnv2::ops
