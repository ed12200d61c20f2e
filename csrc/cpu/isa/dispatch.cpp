#include "cpu/isa/dispatch.h"

#include <algorithm>
#include <cstdlib>

#include "core/isa.h"
#include "cpu/int8/isa/dispatch.h"
#include "cpu/isa/candidates.h"
#include "cpu/isa/features.h"
#include "cpu/isa/isa.h"

namespace mnv2::cpu {
namespace {

using FloatCandidate = Candidate<Isa, Kernels>;

constexpr FloatCandidate candidate(Isa isa, const Kernels* kernels, bool (*supported)(), bool (*pays)() = always,
                                   bool (*enable)() = always)
{
    return {isa, format_of(isa).name, kernels, supported, pays, enable};
}

bool serves(const FloatCandidate& candidate, ScalarType weights)
{
    return candidate.kernels && format_of(candidate.isa).serves(weights);
}

// Best first.
constexpr FloatCandidate candidates[] = {
#if defined(__x86_64__)
    candidate(Isa::amx_bf16, MNV2_HAVE_AMX_BF16 ? &amx_bf16_kernels : nullptr, supports_amx_bf16, always,
              request_tile_registers),
    // Emerald Rapids takes 1.6 times as long by VDPBF16PS as by float32 multiply-adds (NOTES.md). AMD documents as many of both
    // a cycle for its cores, on which this instruction set has not been timed.
    candidate(Isa::avx512_bf16, MNV2_HAVE_AVX512_BF16 ? &avx512_bf16_kernels : nullptr, supports_avx512_bf16, is_amd),
    candidate(Isa::avx512, MNV2_HAVE_AVX512 ? &avx512_kernels : nullptr, supports_avx512),
    candidate(Isa::avx2, MNV2_HAVE_AVX2 ? &avx2_kernels : nullptr, supports_avx2),
#elif defined(__aarch64__)
    candidate(Isa::neon_bf16, MNV2_HAVE_NEON_BF16 ? &neon_bf16_kernels : nullptr, supports_neon_bf16),
    candidate(Isa::neon_fp16, MNV2_HAVE_NEON_FP16 ? &neon_fp16_kernels : nullptr, supports_neon_fp16),
    candidate(Isa::neon, MNV2_HAVE_NEON ? &neon_kernels : nullptr, supports_neon),
#endif
    candidate(Isa::scalar, &scalar_kernels, always),
};

// From candidate on; the last one always does.
const Kernels& first_to_serve(const FloatCandidate* candidate, ScalarType weights)
{
    while (!serves(*candidate, weights) || !candidate->runs() || !candidate->pays()) ++candidate;
    return *candidate->kernels;
}

// The names of kernels of floats, then those that only kernels of bytes have.
std::vector<IsaState> all_states()
{
    std::vector<IsaState> all = isa_states();
    for (const IsaState& state : int8::isa_states()) {
        const auto has_name = [&](const IsaState& other) { return std::string(other.name) == state.name; };
        if (std::none_of(all.begin(), all.end(), has_name)) all.push_back(state);
    }
    return all;
}

std::string choices(const std::vector<IsaState>& states)
{
    std::string text;
    for (const IsaState& state : states)
        if (state.compiled && state.supported) text += (text.empty() ? "" : ", ") + std::string(state.name);
    return text;
}

[[noreturn]] void refuse(const std::string& what)
{
    throw std::runtime_error("MNV2_FORCE_ISA: " + what + "; expected one of: " + choices(all_states()));
}

}  // namespace

std::vector<IsaState> isa_states()
{
    return states_of(candidates);
}

const Kernels& select_kernels(ScalarType weights)
{
    const FloatCandidate* const forced = forced_candidate(candidates);
    if (!forced) return first_to_serve(candidates, weights);
    if (!serves(*forced, weights)) return first_to_serve(forced, weights);
    if (!forced->runs()) refuse_forced(forced->name, true);
    return *forced->kernels;
}

const Kernels& kernels_for(Isa isa)
{
    return kernels_among(candidates, isa);
}

void refuse_forced(const std::string& name, bool compiled)
{
    refuse("this " + std::string(compiled ? "processor" : "build") + " does not support '" + name + "'");
}

void refuse_weights(const std::vector<IsaState>& states)
{
    throw std::runtime_error("weights were packed for an instruction set that this machine does not support; it supports: " +
                             choices(states));
}

std::string forced_isa()
{
    const char* const forced = std::getenv("MNV2_FORCE_ISA");
    if (!forced || !*forced) return {};
    const std::string name = forced;
    for (const IsaState& state : all_states()) {
        if (name != state.name) continue;
        if (!state.compiled || !state.supported) refuse_forced(name, state.compiled);
        return name;
    }
    refuse("unknown instruction set '" + name + "'");
}

}  // namespace mnv2::cpu
