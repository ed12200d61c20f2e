// Which int8 kernels run: the first supported instruction set of a priority list, or the one that MNV2_FORCE_ISA names.
#pragma once

#include <vector>

#include "cpu/int8/kernels.h"
#include "cpu/isa/dispatch.h"

namespace mnv2::cpu::int8 {

// Every instruction set that int8 kernels know for this architecture, best first.
std::vector<IsaState> isa_states();

// Kernels for new packed weights. Reads MNV2_FORCE_ISA on every call; throws std::runtime_error that lists the choices where it
// names an instruction set that this build or this processor lacks. A name that only float kernels know forces nothing here,
// nor the other way round.
const Kernels& select_kernels();

// Kernels for weights packed earlier; throws std::runtime_error where this machine cannot run them.
const Kernels& kernels_for(Isa isa);

}  // namespace mnv2::cpu::int8
