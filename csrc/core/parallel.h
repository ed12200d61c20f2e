// The thread seam: whoever calls a kernel brings the threads (torch's pool, or a test's own).
#pragma once

#include <cstdint>

namespace mnv2 {

// Runs body(context, begin, end) over disjoint ranges that cover [0, tasks), and returns when all are done. body does not
// throw.
using ParallelBody = void (*)(void* context, int64_t begin, int64_t end);

struct Parallel {
    int64_t threads = 1;
    void (*run)(int64_t tasks, ParallelBody body, void* context) = [](int64_t tasks, ParallelBody body, void* context) {
        body(context, 0, tasks);
    };
};

}  // namespace mnv2
