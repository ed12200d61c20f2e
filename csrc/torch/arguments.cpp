#include "torch/arguments.h"

#include <algorithm>
#include <variant>

namespace mnv2::ops {
namespace {

const OptionalTensor none;

void check_weight(const Argument& argument, const Tensor& tensor, const Integers& shape, const std::optional<ScalarType>& x,
                  const Device& device)
{
    check_device(argument, tensor, device);
    const ScalarType type = check_scalar_type(argument, tensor);
    if (x && type != ScalarType::float32 && type != *x)
        refuse(argument, std::string("dtype float32 or ") + scalar_type_name(*x) + " (x's)", scalar_type_name(type));
    check_shape(argument, tensor, shape);
}

size_t tensors_of(const NetworkLayer& layer)
{
    constexpr size_t block_tensors = 9, gate_tensors = 4;
    if (const auto* block = std::get_if<InvertedResidualParams>(&layer.params))
        return block_tensors + (block->has_gate() ? gate_tensors : 0);
    if (const auto* stem = std::get_if<StemParams>(&layer.params); stem && stem->bytes_as) return 4;
    return std::holds_alternative<LinearParams>(layer.params) ? 2 : 3;
}

// The tensors of one layer, from the first on.
class LayerReader {
public:
    LayerReader(const char* op, std::string prefix, const OptionalTensor* tensors)
        : op_(op), prefix_(std::move(prefix)), tensors_(tensors)
    {
    }

    LayerArguments operator()(const StemParams& params) const
    {
        const Integers shape{params.out_channels, params.in_channels, params.kernel, params.kernel};
        if (!params.bytes_as) return {{convolution("", 0, shape)}};
        return {{convolution("", 0, shape)}, TableArguments{{op_, prefix_ + "table"}, tensors_[3], params.in_channels}};
    }

    LayerArguments operator()(const InvertedResidualParams& params) const
    {
        LayerArguments arguments;
        if (params.has_expand)
            arguments.convolutions.push_back(convolution("expand_", 0, {params.expanded_channels, params.in_channels, 1, 1}));
        else
            check_no_expand();
        const int64_t expanded = params.expanded_channels, squeezed = params.squeezed_channels;
        arguments.convolutions.push_back(convolution("depthwise_", 3, {expanded, 1, params.kernel, params.kernel}));
        arguments.convolutions.push_back(convolution("project_", 6, {params.out_channels, expanded, 1, 1}));
        if (!params.has_gate()) return arguments;
        arguments.convolutions.push_back(without_scale("squeeze_", 9, {squeezed, expanded, 1, 1}));
        arguments.convolutions.push_back(without_scale("excite_", 11, {expanded, squeezed, 1, 1}));
        return arguments;
    }

    LayerArguments operator()(const HeadPoolParams& params) const
    {
        return {{convolution("", 0, {params.out_channels, params.in_channels, 1, 1})}};
    }

    LayerArguments operator()(const LinearParams& params) const
    {
        return {{without_scale("", 0, {params.out_features, params.in_features})}};
    }

private:
    ConvolutionArguments convolution(const char* name, int first, const Integers& shape) const
    {
        return {op_, prefix_ + name, tensors_[first], tensors_[first + 1], tensors_[first + 2], shape};
    }

    // Weight and bias.
    ConvolutionArguments without_scale(const char* name, int first, const Integers& shape) const
    {
        return {op_, prefix_ + name, tensors_[first], none, tensors_[first + 1], shape};
    }

    void check_no_expand() const
    {
        constexpr const char* names[] = {"expand_weight", "expand_scale", "expand_bias"};
        for (int i = 0; i < 3; ++i)
            if (tensors_[i]) refuse({op_, prefix_ + names[i]}, "None without an expand", "a tensor");
    }

    const char* op_;
    std::string prefix_;
    const OptionalTensor* tensors_;
};

}  // namespace

OptionalTensors without_undefined(OptionalTensors tensors)
{
    for (OptionalTensor& tensor : tensors)
        if (tensor && !tensor->defined()) tensor.reset();
    return tensors;
}

std::vector<LayerArguments> layer_arguments(const char* op, const std::vector<NetworkLayer>& layers,
                                            const OptionalTensors& weights)
{
    size_t wanted = 0;
    for (const NetworkLayer& layer : layers) wanted += tensors_of(layer);
    if (weights.size() != wanted)
        refuse({op, "weights"},
               std::to_string(wanted) +
                   " tensors or None, nine of a block, thirteen of one with a gate, four of a stem with bytes_as, two of a "
                   "linear layer, else "
                   "three",
               std::to_string(weights.size()));
    std::vector<LayerArguments> arguments;
    const OptionalTensor* next = weights.data();
    for (size_t index = 0; index < layers.size(); next += tensors_of(layers[index++])) {
        const std::string prefix = layers.size() > 1 ? "layers[" + std::to_string(index) + "]: " : "";
        arguments.push_back(std::visit(LayerReader(op, prefix, next), layers[index].params));
    }
    return arguments;
}

void check_convolution(const ConvolutionArguments& from, const std::optional<ScalarType>& x, const Device& device)
{
    if (!from.weight) refuse(from.argument("weight"), "a tensor", "None");
    const Integers per_channel{from.shape[0]};
    check_weight(from.argument("weight"), *from.weight, from.shape, x, device);
    if (from.scale) check_weight(from.argument("scale"), *from.scale, per_channel, x, device);
    if (from.bias) check_weight(from.argument("bias"), *from.bias, per_channel, x, device);
}

void check_table(const TableArguments& from, const Device& device)
{
    if (!from.table) refuse(from.argument, "a tensor", "None");
    check_device(from.argument, *from.table, device);
    check_is(from.argument, *from.table, aoti_torch_dtype_float32(), "");
    check_shape(from.argument, *from.table, {from.channels, byte_values});
}

void check_weights(const std::vector<LayerArguments>& arguments, const std::optional<ScalarType>& x, const Device& device)
{
    for (const LayerArguments& layer : arguments)
        for (const ConvolutionArguments& convolution : layer.convolutions) check_convolution(convolution, x, device);
    for (const LayerArguments& layer : arguments)
        if (layer.table) check_table(*layer.table, device);
}

ScalarType weights_type(const std::vector<LayerArguments>& arguments)
{
    const ConvolutionArguments& first = arguments.front().convolutions.front();
    const ScalarType type = check_scalar_type(first.argument("weight"), *first.weight);
    for (const LayerArguments& layer : arguments)
        for (const ConvolutionArguments& convolution : layer.convolutions)
            if (scalar_type(dtype_of(*convolution.weight)) != type) return ScalarType::float32;
    return type;
}

const Tensor& first_weight(const char* op, const OptionalTensors& weights)
{
    const auto given = std::find_if(weights.begin(), weights.end(), [](const OptionalTensor& each) { return each; });
    if (given == weights.end()) refuse({op, "weights"}, "at least one tensor", "none");
    return **given;
}

}  // namespace mnv2::ops
