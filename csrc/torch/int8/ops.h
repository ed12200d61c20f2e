// pack and run of layers that compute with bytes, on the CPU.
#pragma once

#include <string>

#include "torch/arguments.h"
#include "torch/checks.h"

namespace mnv2::ops {

// A layer's tensors. Stem: weight, multiplier, bias, then for each channel of the image pad (uint8, the byte that
// surrounds it), image_scale and image_zero_point (what the bytes of an image of floats stand for). Block: weight,
// multiplier and bias of expand (None without one), depthwise and project, then shortcut (None without one). Head: weight,
// multiplier, bias, pool (one number). Linear: weight, multiplier, bias. Weights are int8, the others float32.
Tensor pack_int8(const char* op, Layers layers, const OptionalTensors& weights);

// x: uint8, into a stem float32, too. The result is uint8, behind a linear layer float32.
Tensor run_int8(const char* op, const std::string& text, const Tensor& x, const Tensor& packed);

// Seconds of each layer in one run: the first image's.
Tensor run_int8_seconds(const char* op, const std::string& text, const Tensor& x, const Tensor& packed);

}  // namespace mnv2::ops
