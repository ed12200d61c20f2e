#include "cpu/measure/peak.h"

#include <algorithm>
#include <chrono>

#include "cpu/isa/dispatch.h"

namespace mnv2::cpu {
namespace {

constexpr int64_t rounds = 20'000;  // 40 to 100 microseconds: shorter than a time slice

using Burst = double (*)(int64_t rounds, float* sink);

struct BurstTime {
    double operations, nanoseconds;
};

BurstTime time_burst(Burst burst)
{
    using Clock = std::chrono::steady_clock;
    float values[] = {0.5f, 1.0f, 0.0f};
    const auto start = Clock::now();
    const double operations = burst(rounds, values);
    return {operations, std::chrono::duration<double, std::nano>(Clock::now() - start).count()};
}

}  // namespace

double measure_fma_peak()
{
    constexpr int bursts = 200;
    const Kernels& kernels = select_kernels();
    double best = 0.0;
    for (int burst = 0; burst < bursts; ++burst) {
        const BurstTime time = time_burst(kernels.fma_burst);
        best = std::max(best, time.operations / time.nanoseconds);
    }
    return best;
}

}  // namespace mnv2::cpu
