#include "cpu/measure/peak.h"

#include <algorithm>
#include <chrono>

#include "cpu/isa/dispatch.h"

namespace mnv2::cpu {

double measure_fma_peak()
{
    using Clock = std::chrono::steady_clock;
    constexpr int bursts = 200;
    constexpr int64_t rounds = 20'000;  // 40 to 100 microseconds: shorter than a time slice
    const Kernels& kernels = select_kernels();
    double best = 0.0;
    for (int burst = 0; burst < bursts; ++burst) {
        float values[] = {0.5f, 1.0f, 0.0f};
        const auto start = Clock::now();
        const double operations = kernels.fma_burst(rounds, values);
        best = std::max(best, operations / std::chrono::duration<double, std::nano>(Clock::now() - start).count());
    }
    return best;
}

}  // namespace mnv2::cpu
