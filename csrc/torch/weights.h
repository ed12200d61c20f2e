// Convolution weights as the packers read them: contiguous, float32.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/packing.h"
#include "torch/arguments.h"

namespace mnv2::ops {

// Owns the float32 tensors that a ConvolutionWeights points to.
class ConvolutionTensors {
public:
    // from: checked.
    explicit ConvolutionTensors(const ConvolutionArguments& from) : weight_(to_float32(*from.weight))
    {
        if (from.scale) scale_ = to_float32(*from.scale);
        if (from.bias) bias_ = to_float32(*from.bias);
    }

    ConvolutionWeights view() const
    {
        const auto data = [](const std::optional<Tensor>& tensor) {
            return tensor ? static_cast<const float*>(tensor->const_data_ptr()) : nullptr;
        };
        return {data(weight_), data(scale_), data(bias_)};
    }

private:
    static Tensor to_float32(const Tensor& tensor)
    {
        return torch::stable::contiguous(torch::stable::to(tensor, torch::headeronly::ScalarType::Float));
    }

    std::optional<Tensor> weight_, scale_, bias_;
};

// A block's, in the order of LayerArguments.
inline BlockConvolutions block_convolutions(const InvertedResidualParams& params,
                                            const std::vector<ConvolutionTensors>& tensors)
{
    BlockConvolutions convolutions;
    auto next = tensors.begin();
    if (params.has_expand) convolutions.expand = (next++)->view();
    convolutions.depthwise = (next++)->view();
    convolutions.project = (next++)->view();
    if (!params.has_gate()) return convolutions;
    convolutions.squeeze = (next++)->view();
    convolutions.excite = next->view();
    return convolutions;
}

}  // namespace mnv2::ops
