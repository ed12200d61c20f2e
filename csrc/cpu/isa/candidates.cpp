#include "cpu/isa/candidates.h"

#include <algorithm>
#include <cstdlib>

#include "cpu/int8/isa/dispatch.h"

namespace mnv2::cpu {
namespace {

// Of floats, then what only bytes have.
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
