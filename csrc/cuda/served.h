// Which options of a layer have CUDA kernels.
#pragma once

#include "core/layer_chain.h"

namespace mnv2::cuda {

constexpr ServedOptions served_options{.backend = "CUDA"};

}  // namespace mnv2::cuda
