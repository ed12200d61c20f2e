// Weights as they came, in one buffer that any machine can read: what a saved program holds, to be packed where it runs.
#pragma once

#include <functional>
#include <string>

#include "torch/arguments.h"

namespace mnv2::ops {

// A uint8 buffer of these tensors, which have passed pack's checks, on the CPU.
Tensor to_portable(const char* op, const OptionalTensors& weights);

// Whether this is such a buffer, by its first bytes.
bool is_portable(const Tensor& packed);

using PackWeights = std::function<Tensor(const OptionalTensors& weights)>;

// A portable buffer's weights as `pack` packs them, with these layers, for this machine: by the first call that brings them,
// and found again by later ones. Other weights, wherever in memory they lie, are not taken for them: a digest of all bytes
// tells them apart, which pack wrote into the buffer. So a buffer whose weights somebody edits in place stays what it was.
Tensor packed_here(const char* op, const Tensor& portable, const std::string& layers, const PackWeights& pack);

}  // namespace mnv2::ops
