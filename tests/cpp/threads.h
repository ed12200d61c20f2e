// Threads for the kernels: the test's own, as many as wanted.
#pragma once

#include <cstdint>
#include <thread>
#include <vector>

#include "core/parallel.h"

namespace mnv2::test {

template <int64_t THREADS>
Parallel on_threads()
{
    return {THREADS, [](int64_t tasks, ParallelBody body, void* context) {
                std::vector<std::thread> threads;
                for (int64_t i = 0; i < THREADS; ++i) {
                    const int64_t begin = tasks * i / THREADS, end = tasks * (i + 1) / THREADS;
                    if (begin < end) threads.emplace_back(body, context, begin, end);
                }
                for (std::thread& thread : threads) thread.join();
            }};
}

// Four threads' tasks, one after the other, last one first.
inline Parallel in_reverse()
{
    return {4, [](int64_t tasks, ParallelBody body, void* context) {
                for (int64_t task = tasks; task-- > 0;) body(context, task, task + 1);
            }};
}

inline std::vector<Parallel> thread_counts()
{
    return {on_threads<1>(), on_threads<2>(), on_threads<3>(), on_threads<5>(), in_reverse()};
}

}  // namespace mnv2::test
