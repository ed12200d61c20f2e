#include "cpu/isa/dispatch.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

#include "core/isa.h"
#include "cpu/int8/isa/dispatch.h"
#include "cpu/isa/features.h"
#include "cpu/isa/isa.h"

namespace mnv2::cpu {
namespace {

bool always()
{
    return true;
}

// An instruction set whose kernels may be in this build, and how this processor is asked for it.
struct Candidate {
    Isa isa;
    const Kernels* kernels;  // null where this build lacks them
    bool (*supported)();
    bool (*pays)() = always;    // whether it is faster than those behind it, on this processor
    bool (*enable)() = always;  // asks the system for what it needs; whether that was given

    const char* name() const { return format_of(isa).name; }
    bool is_here() const { return kernels && supported(); }
    bool runs() const { return is_here() && enable(); }
    bool serves(ScalarType weights) const { return kernels && format_of(isa).serves(weights); }
};

// Best first.
constexpr Candidate candidates[] = {
#if defined(__x86_64__)
    {Isa::amx_bf16, MNV2_HAVE_AMX_BF16 ? &amx_bf16_kernels : nullptr, supports_amx, always, request_tile_registers},
    // Emerald Rapids takes 1.6 times as long by VDPBF16PS as by float32 multiply-adds (NOTES.md). AMD documents as many of both
    // a cycle for its cores, on which this instruction set has not been timed.
    {Isa::avx512_bf16, MNV2_HAVE_AVX512_BF16 ? &avx512_bf16_kernels : nullptr, supports_avx512_bf16, is_amd},
    {Isa::avx512, MNV2_HAVE_AVX512 ? &avx512_kernels : nullptr, supports_avx512},
    {Isa::avx2, MNV2_HAVE_AVX2 ? &avx2_kernels : nullptr, supports_avx2},
#elif defined(__aarch64__)
    {Isa::neon_bf16, MNV2_HAVE_NEON_BF16 ? &neon_bf16_kernels : nullptr, supports_neon_bf16},
    {Isa::neon_fp16, MNV2_HAVE_NEON_FP16 ? &neon_fp16_kernels : nullptr, supports_neon_fp16},
    {Isa::neon, MNV2_HAVE_NEON ? &neon_kernels : nullptr, supports_neon},
#endif
    {Isa::scalar, &scalar_kernels, always},
};

std::string choices()
{
    std::string text;
    for (const Candidate& candidate : candidates)
        if (candidate.is_here()) text += (text.empty() ? "" : ", ") + std::string(candidate.name());
    return text;
}

// From candidate on; the last one always does.
const Kernels& first_to_serve(const Candidate* candidate, ScalarType weights)
{
    while (!candidate->serves(weights) || !candidate->runs() || !candidate->pays()) ++candidate;
    return *candidate->kernels;
}

const Kernels& forced_kernels(const std::string& name, ScalarType weights)
{
    for (const Candidate& candidate : candidates) {
        if (name != candidate.name()) continue;
        if (candidate.is_here() && !candidate.serves(weights)) return first_to_serve(&candidate, weights);
        if (candidate.runs()) return *candidate.kernels;
        const char* owner = candidate.kernels ? "processor" : "build";
        throw std::runtime_error("MNV2_FORCE_ISA: this " + std::string(owner) + " does not support '" + name +
                                 "'; expected one of: " + choices());
    }
    if (int8::is_isa(name)) return first_to_serve(candidates, weights);
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

const Kernels& select_kernels(ScalarType weights)
{
    const char* forced = std::getenv("MNV2_FORCE_ISA");
    return forced && *forced ? forced_kernels(forced, weights) : first_to_serve(candidates, weights);
}

const Kernels& kernels_for(Isa isa)
{
    for (const Candidate& candidate : candidates)
        if (candidate.isa == isa && candidate.runs()) return *candidate.kernels;
    throw std::runtime_error("weights were packed for an instruction set that this machine does not support; it supports: " +
                             choices());
}

}  // namespace mnv2::cpu
