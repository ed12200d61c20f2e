#include "core/served_options.h"

#include <string>

namespace mnv2 {
namespace {

LayerError unserved(const char* argument, const std::string& expected, const std::string& got, const ServedOptions& served)
{
    return layer_error(argument, expected + " (" + served.backend + " has no kernels for others)", got);
}

// One activation of a layer.
std::optional<LayerError> find_unserved_activation(const char* argument, Activation activation, const ServedOptions& served)
{
    if (served.curves || curve_of(activation) == Curve::none) return std::nullopt;
    return unserved(argument, "one that clamps", activation_name(activation), served);
}

std::optional<LayerError> find_unserved_of_block(const Layer& layer, const ServedOptions& served)
{
    if (auto error = find_unserved_activation("project_activation", layer.project_activation, served)) return error;
    if (layer.squeezed_channels && !served.gates)
        return unserved("squeezed_channels", "none", std::to_string(layer.squeezed_channels), served);
    if (!layer.depthwise_activation) return std::nullopt;
    if (!served.depthwise_activation && layer.has_expand)
        return unserved("depthwise_activation", std::string("the expand's, ") + activation_name(layer.activation),
                        activation_name(*layer.depthwise_activation), served);
    return find_unserved_activation("depthwise_activation", *layer.depthwise_activation, served);
}

std::optional<LayerError> find_unserved(const Layer& layer, const ServedOptions& served)
{
    if (layer.kernel != kernel_size && !served.kernels)
        return unserved("kernel", std::to_string(kernel_size), std::to_string(layer.kernel), served);
    if (auto error = find_unserved_activation("activation", layer.activation, served)) return error;
    if (layer.kind == LayerKind::linear && layer.activation != Activation::none && !served.linear_activation)
        return unserved("activation", activation_name(Activation::none), activation_name(layer.activation), served);
    return layer.kind == LayerKind::block ? find_unserved_of_block(layer, served) : std::nullopt;
}

}  // namespace

std::optional<LayerError> find_unserved(const std::vector<NetworkLayer>& layers, const ServedOptions& served)
{
    LayerKind before = LayerKind::block;
    for (size_t index = 0; index < layers.size(); ++index) {
        const std::string name = "layers[" + std::to_string(index) + "]";
        const Layer layer = to_layer(layers[index]);
        if (auto error = find_unserved(layer, served)) {
            if (layers.size() > 1) error->argument = name + ": " + error->argument;
            return error;
        }
        const bool is_linear = layer.kind == LayerKind::linear;
        if (is_linear && before == LayerKind::linear && !served.linear_chains)
            return unserved(name.c_str(), "one linear layer", "another one", served);
        before = layer.kind;
    }
    return std::nullopt;
}

}  // namespace mnv2
