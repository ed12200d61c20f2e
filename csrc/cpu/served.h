// Which options of a layer have kernels on CPUs.
#pragma once

#include "core/served_options.h"
#include "cpu/kernels.h"

namespace mnv2::cpu {

constexpr ServedOptions served_options(const Kernels& kernels)
{
    return {.backend = kernels.name};
}

}  // namespace mnv2::cpu
