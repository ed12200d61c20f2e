#include "cpu/measure/peak.h"

#include <algorithm>
#include <chrono>

#include "cpu/int8/isa/dispatch.h"
#include "cpu/isa/dispatch.h"

namespace mnv2::cpu {
namespace {

// Operations a nanosecond of the best burst; burst(rounds) returns how many it did.
template <class Burst>
double best_of(const Burst& burst)
{
    using Clock = std::chrono::steady_clock;
    constexpr int bursts = 200;
    constexpr int64_t rounds = 20'000;  // 40 to 100 microseconds: shorter than a time slice
    double best = 0.0;
    for (int count = 0; count < bursts; ++count) {
        const auto start = Clock::now();
        const double operations = burst(rounds);
        best = std::max(best, operations / std::chrono::duration<double, std::nano>(Clock::now() - start).count());
    }
    return best;
}

}  // namespace

double measure_fma_peak()
{
    const Kernels& kernels = select_kernels();
    return best_of([&](int64_t rounds) {
        float values[] = {0.5f, 1.0f, 0.0f};
        return kernels.fma_burst(rounds, values);
    });
}

double measure_dot_peak()
{
    const int8::Kernels& kernels = int8::select_kernels();
    return best_of([&](int64_t rounds) {
        int32_t values[] = {0, 1, 0};  // sums stay small
        return kernels.dot_burst(rounds, values);
    });
}

}  // namespace mnv2::cpu
