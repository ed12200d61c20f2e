// The entry point of the CPU path. No torch, no allocation visible to the caller; scratch belongs to the threads. Throws
// std::bad_alloc where there is no memory for it.
#pragma once

#include <vector>

#include "core/block.h"
#include "core/network.h"
#include "core/parallel.h"

namespace mnv2::cpu {

// layers: what read_network read, with their images' sizes. y: x's dtype, (N, channels of the last layer), contiguous.
// The same bits as layer by layer. layer_seconds: null, or a number for each layer, to which its time is added. A stage's time
// goes to its last layer. Where images run side by side, only the first one's time counts.
void network(const std::vector<NetworkLayer>& layers, const InputView& x, void* y, const Parallel& parallel,
             double* layer_seconds = nullptr);

}  // namespace mnv2::cpu
