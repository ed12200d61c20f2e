// Which options of a layer have kernels on CPUs.
#pragma once

#include "core/layer_chain.h"
#include "cpu/kernels.h"

namespace mnv2::cpu {

constexpr ServedOptions served_options(const Kernels& kernels)
{
    return {.backend = kernels.name,
            .kernels = true,
            .curves = true,
            .depthwise_activation = true,
            .gates = true,
            .linear_activation = true,
            .linear_chains = true,
            .bytes = true};
}

}  // namespace mnv2::cpu
