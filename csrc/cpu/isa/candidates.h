// How an instruction set is chosen, for kernels of floats and of bytes alike: the first of a priority list that runs here, or
// the one that MNV2_FORCE_ISA names.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/isa/dispatch.h"

namespace mnv2::cpu {

constexpr bool always()
{
    return true;
}

// An instruction set whose kernels may be in this build, and how this processor is asked for it.
template <class Isa, class Kernels>
struct Candidate {
    Isa isa;
    const char* name;
    const Kernels* kernels;  // null where this build lacks them
    bool (*supported)();
    bool (*pays)() = always;    // whether it is faster than those behind it, on this processor
    bool (*enable)() = always;  // asks the system for what it needs; whether that was given

    bool is_here() const { return kernels && supported(); }
    bool runs() const { return is_here() && enable(); }
};

// The name in MNV2_FORCE_ISA; empty where there is none. Throws std::runtime_error that lists the choices where neither kernels
// of floats nor of bytes have an instruction set of that name here: one that only the others have forces nothing.
std::string forced_isa();

// Throws std::runtime_error: weights were packed for what is none of these.
[[noreturn]] void refuse_weights(const std::vector<IsaState>& states);

// Throws std::runtime_error: the system refuses what an instruction set needs.
[[noreturn]] void refuse_forced(const std::string& name, bool compiled);

template <class Isa, class Kernels, size_t COUNT>
std::vector<IsaState> states_of(const Candidate<Isa, Kernels> (&candidates)[COUNT])
{
    std::vector<IsaState> states;
    for (const auto& candidate : candidates)
        states.push_back({candidate.name, candidate.kernels != nullptr, candidate.supported()});
    return states;
}

// The candidate that MNV2_FORCE_ISA names; null where it names none of these.
template <class Isa, class Kernels, size_t COUNT>
const Candidate<Isa, Kernels>* forced_candidate(const Candidate<Isa, Kernels> (&candidates)[COUNT])
{
    const std::string name = forced_isa();
    for (const auto& candidate : candidates)
        if (name == candidate.name) return &candidate;
    return nullptr;
}

template <class Isa, class Kernels, size_t COUNT>
const Kernels& kernels_among(const Candidate<Isa, Kernels> (&candidates)[COUNT], Isa isa)
{
    for (const auto& candidate : candidates)
        if (candidate.isa == isa && candidate.runs()) return *candidate.kernels;
    refuse_weights(states_of(candidates));
}

}  // namespace mnv2::cpu
