// How long the layers of a profiled call take.
#pragma once

#include <chrono>

namespace mnv2::cpu {

// Adds the time of a scope to a number, if there is one.
class Stopwatch {
public:
    explicit Stopwatch(double* seconds) : seconds_(seconds)
    {
        if (seconds_) start_ = Clock::now();
    }
    ~Stopwatch()
    {
        if (seconds_) *seconds_ += std::chrono::duration<double>(Clock::now() - start_).count();
    }
    Stopwatch(const Stopwatch&) = delete;
    Stopwatch& operator=(const Stopwatch&) = delete;

private:
    using Clock = std::chrono::steady_clock;
    double* seconds_;
    Clock::time_point start_;
};

}  // namespace mnv2::cpu
