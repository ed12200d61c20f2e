#include "cpu/dispatch.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

#include "cpu/isa.h"

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace mnv2::cpu {
namespace {

#if defined(__x86_64__)
bool supports_avx2()
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}
bool supports_avx512()
{
    return supports_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#elif defined(__aarch64__)
bool supports_neon()
{
    return getauxval(AT_HWCAP) & HWCAP_ASIMD;
}
#endif

bool always()
{
    return true;
}

struct Candidate {
    const char* name;
    const Kernels* kernels;  // null where this build lacks them
    bool (*supported)();

    bool runs() const { return kernels && supported(); }
};

// Best first.
constexpr Candidate candidates[] = {
#if defined(__x86_64__)
    {"avx512", MNV2_HAVE_AVX512 ? &avx512_kernels : nullptr, supports_avx512},
    {"avx2", MNV2_HAVE_AVX2 ? &avx2_kernels : nullptr, supports_avx2},
#elif defined(__aarch64__)
    {"neon", MNV2_HAVE_NEON ? &neon_kernels : nullptr, supports_neon},
#endif
    {"scalar", &scalar_kernels, always},
};

std::string choices()
{
    std::string text;
    for (const Candidate& candidate : candidates)
        if (candidate.runs()) text += (text.empty() ? "" : ", ") + std::string(candidate.name);
    return text;
}

const Kernels& forced_kernels(const std::string& name)
{
    for (const Candidate& candidate : candidates) {
        if (candidate.name != name) continue;
        if (candidate.runs()) return *candidate.kernels;
        const char* owner = candidate.kernels ? "processor" : "build";
        throw std::runtime_error("MNV2_FORCE_ISA: this " + std::string(owner) + " does not support '" + name +
                                 "'; expected one of: " + choices());
    }
    throw std::runtime_error("MNV2_FORCE_ISA: unknown instruction set '" + name + "'; expected one of: " + choices());
}

}  // namespace

std::vector<IsaState> isa_states()
{
    std::vector<IsaState> states;
    for (const Candidate& candidate : candidates)
        states.push_back({candidate.name, candidate.kernels != nullptr, candidate.supported()});
    return states;
}

const Kernels& select_kernels()
{
    const char* forced = std::getenv("MNV2_FORCE_ISA");
    if (forced && *forced) return forced_kernels(forced);
    const Candidate* best = candidates;
    while (!best->runs()) ++best;  // the last one always does
    return *best->kernels;
}

const Kernels& kernels_for(Isa isa)
{
    for (const Candidate& candidate : candidates)
        if (candidate.runs() && candidate.kernels->layout.isa == isa) return *candidate.kernels;
    throw std::runtime_error("weights were packed for an instruction set that this machine does not support; it supports: " +
                             choices());
}

}  // namespace mnv2::cpu
