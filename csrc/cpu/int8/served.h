// Which options of a layer have kernels for bytes.
#pragma once

#include "core/layer_chain.h"

namespace mnv2::cpu::int8 {

constexpr ServedOptions served_options{.backend = "int8"};

}  // namespace mnv2::cpu::int8
