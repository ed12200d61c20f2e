// The weights of the operators as they came, and what every device checks of them.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "torch/checks.h"

namespace mnv2::ops {

using OptionalTensor = std::optional<Tensor>;
using OptionalTensors = std::vector<OptionalTensor>;

// The tensors of one convolution or linear layer as they came, and the shape that its weight has to have.
struct ConvolutionArguments {
    const char* op;
    std::string prefix;  // of the arguments' names: "expand_", "layers[2]: project_" or none
    const OptionalTensor& weight;
    const OptionalTensor& scale;
    const OptionalTensor& bias;
    Integers shape;

    Argument argument(const char* name) const { return {op, prefix + name}; }
};

// What the bytes of an image stand for: float32, a number for each value of a byte of each channel.
struct TableArguments {
    Argument argument;
    const OptionalTensor& table;
    int64_t channels;
};

// The convolutions of a block: expand (if it has one), depthwise, project, and a gate's squeeze and excite. Other layers have
// one, and a stem that reads bytes a table.
struct LayerArguments {
    std::vector<ConvolutionArguments> convolutions;
    std::optional<TableArguments> table = std::nullopt;
};

// Python's None in the place of a tensor comes as one without anything.
OptionalTensors without_undefined(OptionalTensors tensors);

// Weights of all layers, each as in its operator: three tensors a convolution, two of a linear layer or one of a gate's, and a
// stem's table behind its convolution. Errors name the layer where there are several.
std::vector<LayerArguments> layer_arguments(const char* op, const std::vector<NetworkLayer>& layers,
                                            const OptionalTensors& weights);

// x: the input's dtype, which the tensors may have beside float32; none where only weights are packed.
void check_convolution(const ConvolutionArguments& from, const std::optional<ScalarType>& x, const Device& device);
void check_weights(const std::vector<LayerArguments>& arguments, const std::optional<ScalarType>& x, const Device& device);

// The dtype that all weights have in common, else float32: what they are multiplied in. For weights that were checked.
ScalarType weights_type(const std::vector<LayerArguments>& arguments);

// A tensor whose device is that of the weights: the first that was given.
const Tensor& first_weight(const char* op, const OptionalTensors& weights);

}  // namespace mnv2::ops
