// Which options of a layer have CUDA kernels.
#pragma once

#include "core/served_options.h"

namespace mnv2::cuda {

constexpr ServedOptions served_options{.backend = "CUDA"};

}  // namespace mnv2::cuda
