#include "cpu/int8/isa/dispatch.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <stdexcept>
#include <string>

#include "cpu/int8/isa/isa.h"
#include "cpu/isa/features.h"

namespace mnv2::cpu::int8 {
namespace {

struct Candidate {
    Isa isa;
    const Kernels* kernels;  // null where this build lacks them
    bool (*supported)();

    const char* name() const { return format_of(isa).name; }
    bool runs() const { return kernels && supported(); }
};

bool always()
{
    return true;
}

// Best first.
constexpr Candidate candidates[] = {
#if defined(__x86_64__)
    {Isa::avx512_vnni, MNV2_HAVE_AVX512_VNNI ? &avx512_vnni_kernels : nullptr, supports_avx512_vnni},
    {Isa::avx2, MNV2_HAVE_AVX2 ? &avx2_kernels : nullptr, supports_avx2},
#elif defined(__aarch64__)
    {Isa::neon_dotprod, MNV2_HAVE_NEON_DOTPROD ? &neon_dotprod_kernels : nullptr, supports_neon_dotprod},
#endif
    {Isa::scalar, &scalar_kernels, always},
};

std::string choices()
{
    std::string text;
    for (const Candidate& candidate : candidates)
        if (candidate.runs()) text += (text.empty() ? "" : ", ") + std::string(candidate.name());
    return text;
}

const Kernels& best_kernels()
{
    const Candidate* candidate = candidates;
    while (!candidate->runs()) ++candidate;  // the last one always does
    return *candidate->kernels;
}

bool is_float_isa(std::string_view name)
{
    const std::vector<IsaState> states = cpu::isa_states();
    return std::any_of(states.begin(), states.end(), [&](const IsaState& state) { return name == state.name; });
}

const Kernels& forced_kernels(const std::string& name)
{
    for (const Candidate& candidate : candidates) {
        if (name != candidate.name()) continue;
        if (candidate.runs()) return *candidate.kernels;
        const char* owner = candidate.kernels ? "processor" : "build";
        throw std::runtime_error("MNV2_FORCE_ISA: this " + std::string(owner) + " does not support '" + name +
                                 "'; expected one of: " + choices());
    }
    if (is_float_isa(name)) return best_kernels();
    throw std::runtime_error("MNV2_FORCE_ISA: unknown instruction set '" + name + "'; expected one of: " + choices());
}

}  // namespace

std::vector<IsaState> isa_states()
{
    std::vector<IsaState> states;
    for (const Candidate& candidate : candidates)
        states.push_back({candidate.name(), candidate.kernels != nullptr, candidate.supported()});
    return states;
}

bool is_isa(std::string_view name)
{
    return std::any_of(std::begin(candidates), std::end(candidates),
                       [&](const Candidate& each) { return name == each.name(); });
}

const Kernels& select_kernels()
{
    const char* forced = std::getenv("MNV2_FORCE_ISA");
    return forced && *forced ? forced_kernels(forced) : best_kernels();
}

const Kernels& kernels_for(Isa isa)
{
    for (const Candidate& candidate : candidates)
        if (candidate.isa == isa && candidate.runs()) return *candidate.kernels;
    throw std::runtime_error("weights were packed for an instruction set that this machine does not support; it supports: " +
                             choices());
}

}  // namespace mnv2::cpu::int8
