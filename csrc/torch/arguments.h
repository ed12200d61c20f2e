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
using Integers = std::vector<int64_t>;

// The tensors of one convolution, as they came.
struct ConvolutionArguments {
    const char* op;
    std::string prefix;  // of the arguments' names: "expand_", "depthwise_", "project_" or none
    const Tensor& weight;
    const OptionalTensor& scale;
    const OptionalTensor& bias;

    Argument argument(const char* name) const { return {op, prefix + name}; }
};

// x: the input's dtype, which the tensors may have beside float32; none where only weights are packed.
inline void check_weight(const Argument& argument, const Tensor& tensor, const Integers& shape,
                         const std::optional<ScalarType>& x, const Device& device)
{
    check_device(argument, tensor, device);
    const ScalarType type = check_scalar_type(argument, tensor);
    if (x && type != ScalarType::float32 && type != *x)
        refuse(argument, std::string("dtype float32 or ") + scalar_type_name(*x) + " (x's)", scalar_type_name(type));
    check_shape(argument, tensor, shape);
}

inline void check_convolution(const ConvolutionArguments& from, const Integers& weight_shape,
                              const std::optional<ScalarType>& x, const Device& device)
{
    const Integers per_channel{weight_shape[0]};
    check_weight(from.argument("weight"), from.weight, weight_shape, x, device);
    if (from.scale) check_weight(from.argument("scale"), *from.scale, per_channel, x, device);
    if (from.bias) check_weight(from.argument("bias"), *from.bias, per_channel, x, device);
}

// --- inverted residual ---

struct BlockArguments {
    const char* op;
    const OptionalTensor &expand_weight, &expand_scale, &expand_bias;
    const Tensor& depthwise_weight;
    const OptionalTensor &depthwise_scale, &depthwise_bias;
    const Tensor& project_weight;
    const OptionalTensor &project_scale, &project_bias;

    ConvolutionArguments expand() const { return {op, "expand_", *expand_weight, expand_scale, expand_bias}; }
    ConvolutionArguments depthwise() const { return {op, "depthwise_", depthwise_weight, depthwise_scale, depthwise_bias}; }
    ConvolutionArguments project() const { return {op, "project_", project_weight, project_scale, project_bias}; }
};

inline Integers expand_shape(const InvertedResidualParams& params)
{
    return {params.expanded_channels, params.in_channels, 1, 1};
}

inline Integers depthwise_shape(const InvertedResidualParams& params)
{
    return {params.expanded_channels, 1, kernel_size, kernel_size};
}

inline Integers project_shape(const InvertedResidualParams& params)
{
    return {params.out_channels, params.expanded_channels, 1, 1};
}

// The channels that the weights tell; in_channels is x's where there is one.
inline BlockChannels block_channels(const BlockArguments& from, std::optional<int64_t> in_channels)
{
    check_dim({from.op, "depthwise_weight"}, from.depthwise_weight, 4);
    check_dim({from.op, "project_weight"}, from.project_weight, 4);
    const int64_t expanded = from.depthwise_weight.size(0);
    const int64_t out = from.project_weight.size(0);
    if (!from.expand_weight) {
        if (from.expand_scale) refuse({from.op, "expand_scale"}, "None without expand_weight", "a tensor");
        if (from.expand_bias) refuse({from.op, "expand_bias"}, "None without expand_weight", "a tensor");
        const int64_t in = in_channels.value_or(expanded);
        check_shape({from.op, "depthwise_weight"}, from.depthwise_weight, {in, 1, kernel_size, kernel_size});
        return {in, expanded, out, false};
    }
    check_dim({from.op, "expand_weight"}, *from.expand_weight, 4);
    return {in_channels.value_or(from.expand_weight->size(1)), expanded, out, true};
}

// The dtype that all weights of a block have in common, else float32: what it multiplies in where weights decide.
inline ScalarType weights_type(const BlockArguments& from)
{
    const ScalarType type = check_scalar_type(from.project().argument("weight"), from.project_weight);
    const bool alike = (!from.expand_weight || dtype_of(*from.expand_weight) == dtype_of(from.project_weight)) &&
                       dtype_of(from.depthwise_weight) == dtype_of(from.project_weight);
    return alike ? type : ScalarType::float32;
}

inline void check_weights(const BlockArguments& from, const InvertedResidualParams& params, const std::optional<ScalarType>& x,
                          const Device& device)
{
    if (params.has_expand) check_convolution(from.expand(), expand_shape(params), x, device);
    check_convolution(from.depthwise(), depthwise_shape(params), x, device);
    check_convolution(from.project(), project_shape(params), x, device);
}

}  // namespace mnv2::ops
