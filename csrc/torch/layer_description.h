// The layers of a network in words, which a host can read while their weights are on a GPU; mnv2_kernels/layer_description.py
// writes them.
//
//   stem in_channels=3 out_channels=32 stride=2 padding=same activation=relu6; block in_channels=32 ...; head_pool ...; linear
//   ...
//
// Each layer is its kind and the options of its packed operator by name: flags are 0 or 1, a padding is top,left,bottom,right
// or same. A stem with joined=1 is computed by one kernel with the block behind it, and packed with it. A string and not
// integers: torch takes half a microsecond to pass on each of those.
#pragma once

#include <string>
#include <vector>

#include "core/layer_chain.h"

namespace mnv2::ops {

struct DescribedLayers {
    std::vector<NetworkLayer> layers;
    bool is_joined;  // the first layer, with the second
};

// Reads and checks every layer by itself.
DescribedLayers read_layers(const char* op, const std::string& layers);

// And that they are a network.
DescribedLayers read_network_layers(const char* op, const std::string& layers);

}  // namespace mnv2::ops
