// Which of a layer's options a backend has kernels for, beyond those of MobileNetV2, which all have. Each backend says it once.
#pragma once

#include <optional>
#include <vector>

#include "core/layer.h"
#include "core/layer_chain.h"

namespace mnv2 {

struct ServedOptions {
    const char* backend;                // as errors name it
    bool kernels = false;               // windows of 5x5 and 7x7
    bool curves = false;                // hardswish and silu
    bool depthwise_activation = false;  // another one than the expand's
    bool gates = false;
    bool linear_activation = false;
    bool linear_chains = false;  // a linear layer behind another one
};

// The first option of these layers that has no kernel there. The argument names the layer where there are several.
std::optional<LayerError> find_unserved(const std::vector<NetworkLayer>& layers, const ServedOptions& served);

}  // namespace mnv2
