#include "core/layer_chain.h"

#include <algorithm>
#include <iterator>
#include <span>
#include <string>

namespace mnv2 {
namespace {

constexpr const char* expected_layers = "any of a stem, blocks, a head and linear layers behind it, or linear layers alone";

constexpr const char* kind_names[] = {"a stem", "a block", "a head", "a linear layer"};  // in LayerParams' order
static_assert(std::variant_size_v<LayerParams> == std::size(kind_names));

template <class Params>
bool holds(const NetworkLayer& layer)
{
    return std::holds_alternative<Params>(layer.params);
}

bool may_follow(const NetworkLayer& before, const NetworkLayer& layer)
{
    if (holds<LinearParams>(layer)) return holds<HeadPoolParams>(before) || holds<LinearParams>(before);
    const bool is_behind_image = holds<StemParams>(before) || holds<InvertedResidualParams>(before);
    return is_behind_image && !holds<StemParams>(layer);
}

template <class Params>
Params params_of(const Layer& layer)
{
    Params params{};
    params.in_channels = layer.in_channels;
    params.out_channels = layer.out_channels;
    params.activation = layer.activation;
    if constexpr (requires { params.padding; }) {
        params.kernel = layer.kernel;
        params.stride = layer.stride;
        params.padding = layer.padding;
    }
    if constexpr (requires { params.bytes_as; }) params.bytes_as = layer.bytes_as;
    if constexpr (requires { params.has_expand; }) {
        params.expanded_channels = layer.expanded_channels;
        params.depthwise_activation = layer.depthwise_activation;
        params.project_activation = layer.project_activation;
        params.has_expand = layer.has_expand;
        params.squeezed_channels = layer.squeezed_channels;
        params.squeeze_activation = layer.squeeze_activation;
        params.excite_activation = layer.excite_activation;
        params.has_residual = layer.has_residual;
    }
    return params;
}

// The inverse.
template <class Params>
Layer layer_of(const Params& params)
{
    Layer layer;
    layer.in_channels = params.in_channels;
    layer.out_channels = params.out_channels;
    layer.activation = params.activation;
    if constexpr (requires { params.padding; }) {
        layer.kernel = params.kernel;
        layer.stride = params.stride;
        layer.padding = params.padding;
    }
    if constexpr (requires { params.bytes_as; }) layer.bytes_as = params.bytes_as;
    if constexpr (requires { params.has_expand; }) {
        layer.expanded_channels = params.expanded_channels;
        layer.depthwise_activation = params.depthwise_activation;
        layer.project_activation = params.project_activation;
        layer.has_expand = params.has_expand;
        layer.squeezed_channels = params.squeezed_channels;
        layer.squeeze_activation = params.squeeze_activation;
        layer.excite_activation = params.excite_activation;
        layer.has_residual = params.has_residual;
    }
    return layer;
}

Layer layer_of(const LinearParams& params)
{
    Layer layer;
    layer.in_channels = params.in_features;
    layer.out_channels = params.out_features;
    layer.activation = params.activation;
    return layer;
}

LayerParams any_params_of(const Layer& layer)
{
    switch (layer.kind) {
        case LayerKind::stem: return params_of<StemParams>(layer);
        case LayerKind::block: return params_of<InvertedResidualParams>(layer);
        case LayerKind::head_pool: return params_of<HeadPoolParams>(layer);
        case LayerKind::linear: break;
    }
    return LinearParams{0, layer.in_channels, layer.out_channels, layer.activation};
}

constexpr LayerKind kinds[] = {LayerKind::stem, LayerKind::block, LayerKind::head_pool,
                               LayerKind::linear};  // LayerParams' order
static_assert(std::variant_size_v<LayerParams> == std::size(kinds));

// --- what a backend serves ---

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
    if (layer.bytes_as && !served.bytes) return unserved("bytes_as", "none", scalar_type_name(*layer.bytes_as), served);
    return layer.kind == LayerKind::block ? find_unserved_of_block(layer, served) : std::nullopt;
}

}  // namespace

NetworkLayer to_network_layer(const Layer& layer)
{
    return {any_params_of(layer), layer.is_same_padded, layer.arithmetic};
}

Layer to_layer(const NetworkLayer& from)
{
    Layer layer = std::visit([](const auto& params) { return layer_of(params); }, from.params);
    layer.kind = kinds[from.params.index()];
    layer.is_same_padded = from.same_padding;
    layer.arithmetic = from.arithmetic;
    if (layer.is_same_padded) layer.padding = {};
    return layer;
}

Channels channels_of(const LayerParams& params)
{
    const auto channels = [](const auto& layer) -> Channels {
        if constexpr (requires { layer.in_features; })
            return {layer.in_features, layer.out_features};
        else
            return {layer.in_channels, layer.out_channels};
    };
    return std::visit(channels, params);
}

std::optional<ChainMismatch> chain_mismatch(const std::vector<NetworkLayer>& layers)
{
    if (layers.empty()) return ChainMismatch{std::nullopt, std::string("expected ") + expected_layers + ", got nothing"};
    for (size_t index = 1; index < layers.size(); ++index) {
        const NetworkLayer &before = layers[index - 1], &layer = layers[index];
        if (!may_follow(before, layer))
            return ChainMismatch{index, std::string("expected ") + expected_layers + ", got " +
                                            kind_names[layer.params.index()] + " behind " + kind_names[before.params.index()]};
        if (layer.arithmetic != before.arithmetic)
            return ChainMismatch{index, std::string("expected arithmetic=") + arithmetic_name(before.arithmetic) +
                                            " as in front of it, got " + arithmetic_name(layer.arithmetic)};
        const int64_t channels = channels_of(layer.params).in, brought = channels_of(before.params).out;
        if (channels != brought)
            return ChainMismatch{index,
                                 "expected " + std::to_string(brought) + " input channels, got " + std::to_string(channels)};
    }
    return std::nullopt;
}

bool ends_in_image(const std::vector<NetworkLayer>& layers)
{
    return holds<StemParams>(layers.back()) || holds<InvertedResidualParams>(layers.back());
}

ImageSize result_size(const NetworkLayer& layer)
{
    const auto size = [](const auto& params) -> ImageSize {
        if constexpr (requires { params.padding; })
            return {params.out_height(), params.out_width()};
        else
            return {1, 1};
    };
    return std::visit(size, layer.params);
}

bool are_same(const std::vector<NetworkLayer>& layers, const std::vector<NetworkLayer>& others)
{
    return std::equal(layers.begin(), layers.end(), others.begin(), others.end(),
                      [](const NetworkLayer& layer, const NetworkLayer& other) { return to_layer(layer) == to_layer(other); });
}

std::string text_of(const std::vector<NetworkLayer>& layers)
{
    std::vector<Layer> described;
    std::transform(layers.begin(), layers.end(), std::back_inserter(described), to_layer);
    return text_of(std::span<const Layer>(described));
}

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

std::optional<ScalarType> bytes_as(const std::vector<NetworkLayer>& layers)
{
    const auto* const stem = std::get_if<StemParams>(&layers.front().params);
    return stem ? stem->bytes_as : std::nullopt;
}

bool set_image(std::vector<NetworkLayer>& layers, int64_t batch, int64_t height, int64_t width)
{
    for (NetworkLayer& layer : layers) {
        const auto set = [&](auto& params) {
            params.batch = batch;
            if constexpr (requires { params.height; }) {
                params.height = height;
                params.width = width;
            }
            if constexpr (requires { params.padding; }) {
                if (layer.same_padding) params.padding = same_padding(height, width, params.stride, params.kernel);
                height = params.out_height();
                width = params.out_width();
            }
            return height > 0 && width > 0;
        };
        if (!std::visit(set, layer.params)) return false;
    }
    return true;
}

}  // namespace mnv2
