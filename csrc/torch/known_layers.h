// What a network's description says, read once for each description.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "torch/cuda_weights.h"
#include "torch/layer_description.h"

namespace mnv2::ops {

struct KnownLayers {
    DescribedLayers described;           // without an image's size
    std::vector<PackedLengths> lengths;  // of each tensor of packed weights; joined layers have one for both
};

// All of it follows from the description, so that it stays right for as long as it is kept. Any threads may ask.
std::shared_ptr<const KnownLayers> known_layers(const char* op, const std::string& layers);

}  // namespace mnv2::ops
