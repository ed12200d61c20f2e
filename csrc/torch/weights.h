// Convolution weights as the packers read them: checked, contiguous, float32.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/packing.h"
#include "torch/checks.h"

namespace mnv2::ops {

// The tensors of one convolution, as they came.
struct ConvolutionArguments {
    const char* op;
    std::string prefix;  // of the arguments' names: "expand_", "depthwise_", "project_" or none
    const Tensor& weight;
    const std::optional<Tensor>& scale;
    const std::optional<Tensor>& bias;

    Argument argument(const char* name) const { return {op, prefix + name}; }
};

// Owns the float32 tensors that a ConvolutionWeights points to.
class ConvolutionTensors {
public:
    // x: the input's dtype, which the tensors may have beside float32; none where only weights are packed.
    ConvolutionTensors(const ConvolutionArguments& from, const std::vector<int64_t>& weight_shape, std::optional<ScalarType> x)
        : type_(check_scalar_type(from.argument("weight"), from.weight)),
          weight_(to_float32(from.argument("weight"), from.weight, weight_shape, x))
    {
        const std::vector<int64_t> per_channel{weight_shape[0]};
        if (from.scale) scale_ = to_float32(from.argument("scale"), *from.scale, per_channel, x);
        if (from.bias) bias_ = to_float32(from.argument("bias"), *from.bias, per_channel, x);
    }

    ScalarType type() const { return type_; }

    ConvolutionWeights view() const
    {
        const auto data = [](const std::optional<Tensor>& tensor) {
            return tensor ? static_cast<const float*>(tensor->const_data_ptr()) : nullptr;
        };
        return {data(weight_), data(scale_), data(bias_)};
    }

private:
    static Tensor to_float32(const Argument& argument, const Tensor& tensor, const std::vector<int64_t>& shape,
                             std::optional<ScalarType> x)
    {
        check_cpu(argument, tensor);
        const ScalarType type = check_scalar_type(argument, tensor);
        if (x && type != ScalarType::float32 && type != *x)
            refuse(argument, std::string("dtype float32 or ") + scalar_type_name(*x) + " (x's)", scalar_type_name(type));
        check_shape(argument, tensor, shape);
        return torch::stable::contiguous(torch::stable::to(tensor, torch::headeronly::ScalarType::Float));
    }

    ScalarType type_;  // the weight's, as it came
    std::optional<Tensor> weight_, scale_, bias_;
};

}  // namespace mnv2::ops
