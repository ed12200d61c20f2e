// Which options of a layer have CUDA kernels.
#pragma once

#include "core/layer_chain.h"

namespace mnv2::cuda {

constexpr ServedOptions served_options{.backend = "CUDA",
                                       .kernels = true,
                                       .curves = true,
                                       .depthwise_activation = true,
                                       .gates = true,
                                       .linear_activation = true,
                                       .linear_chains = true};

}  // namespace mnv2::cuda
