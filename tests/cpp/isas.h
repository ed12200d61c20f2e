// Every instruction set that this machine runs, forced in turn.
#pragma once

#include <cstdlib>
#include <string>

#include "check.h"
#include "cpu/isa/dispatch.h"

namespace mnv2::test {

constexpr const char* force_isa = "MNV2_FORCE_ISA";

class ForcedIsa {
public:
    explicit ForcedIsa(const char* name) { setenv(force_isa, name, 1); }
    ~ForcedIsa() { unsetenv(force_isa); }
    ForcedIsa(const ForcedIsa&) = delete;
    ForcedIsa& operator=(const ForcedIsa&) = delete;
};

// Instruction sets for float32 serve every type of weights, forced or in the place of one that does not.
inline bool is_sixteen_bits(const std::string& isa)
{
    return isa.ends_with("16");
}

// Every instruction set that computes with weights of that type.
template <class Body>
void for_each_isa(ScalarType weights, const Body& body)
{
    for (const cpu::IsaState& isa : cpu::isa_states()) {
        if (!isa.compiled || !isa.supported) continue;
        const Scope scope(isa.name);
        const ForcedIsa forced(isa.name);
        const cpu::Kernels& kernels = cpu::select_kernels(weights);
        if (is_sixteen_bits(isa.name) && std::string(isa.name) != kernels.name) continue;
        CHECK_EQUAL(std::string(kernels.name), std::string(isa.name));
        body(kernels);
    }
}

template <class Body>
void for_each_isa(const Body& body)
{
    for_each_isa(ScalarType::float32, body);
}

}  // namespace mnv2::test
