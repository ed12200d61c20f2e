// Every instruction set that this machine runs, forced in turn.
#pragma once

#include <cstdlib>
#include <string>

#include "check.h"
#include "cpu/dispatch.h"

namespace mnv2::test {

constexpr const char* force_isa = "MNV2_FORCE_ISA";

class ForcedIsa {
public:
    explicit ForcedIsa(const char* name) { setenv(force_isa, name, 1); }
    ~ForcedIsa() { unsetenv(force_isa); }
    ForcedIsa(const ForcedIsa&) = delete;
    ForcedIsa& operator=(const ForcedIsa&) = delete;
};

template <class Body>
void for_each_isa(const Body& body)
{
    for (const cpu::IsaState& isa : cpu::isa_states()) {
        if (!isa.compiled || !isa.supported) continue;
        const Scope scope(isa.name);
        const ForcedIsa forced(isa.name);
        const cpu::Kernels& kernels = cpu::select_kernels();
        CHECK_EQUAL(std::string(kernels.name), std::string(isa.name));
        body(kernels);
    }
}

}  // namespace mnv2::test
