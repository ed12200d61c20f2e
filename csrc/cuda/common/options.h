// Which options of a block the kernels on tensor cores are written for.
#pragma once

#include "core/block.h"
#include "cuda/reasons.h"

namespace mnv2::cuda {

// Why they do not serve a block, whatever its channels; nothing where they do. A block without an expand has the depthwise
// activation alone.
inline const char* unserved_option(const InvertedResidualParams& params)
{
    if (params.has_gate()) return reasons::gate;
    if (params.kernel != kernel_size) return reasons::window;
    const bool is_one_activation = !params.has_expand || params.activation_behind_depthwise() == params.activation;
    const bool is_served = is_one_activation && cuts_at_zero(params.activation_behind_depthwise()) &&
                           params.project_activation == Activation::none;
    return is_served ? nullptr : reasons::activations;
}

}  // namespace mnv2::cuda
