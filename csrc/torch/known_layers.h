// The layers of a text, read once for each text.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/layer_chain.h"

namespace mnv2::ops {

using Layers = std::vector<NetworkLayer>;

// A chain, without an image's size. It stays right for as long as it is kept; any threads may ask. A string and not integers
// tells an operator its layers: torch takes half a microsecond to pass on each of those.
std::shared_ptr<const Layers> known_layers(const char* op, const std::string& text);

}  // namespace mnv2::ops
