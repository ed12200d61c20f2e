// Which instruction set runs: the first supported one of a priority list, or the one that MNV2_FORCE_ISA names.
#pragma once

#include <vector>

#include "cpu/kernels.h"

namespace mnv2::cpu {

struct IsaState {
    const char* name;
    bool compiled;   // in this build
    bool supported;  // by this processor
};

// Every instruction set that the project knows for this architecture, best first.
std::vector<IsaState> isa_states();

// Kernels for new packed weights of that type: with its own arithmetic where the processor has it, else with float32's. Reads
// MNV2_FORCE_ISA on every call; throws std::runtime_error that lists the choices where it names an instruction set that this
// build or this processor lacks. Where it names one for 16 bits that does not serve the type, the next one of the list does.
const Kernels& select_kernels(ScalarType weights = ScalarType::float32);

// Kernels for weights packed earlier; throws std::runtime_error where this machine cannot run them.
const Kernels& kernels_for(Isa isa);

}  // namespace mnv2::cpu
