#include "core/layer_chain.h"

#include <algorithm>

namespace mnv2 {
namespace {

constexpr const char* expected_layers = "an optional stem, blocks, a head and an optional linear layer";

constexpr const char* kind_names[] = {"a stem", "a block", "a head", "a linear layer"};  // in LayerParams' order
static_assert(std::variant_size_v<LayerParams> == std::size(kind_names));

template <class Params>
bool holds(const NetworkLayer& layer)
{
    return std::holds_alternative<Params>(layer.params);
}

}  // namespace

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
    const auto head = std::find_if(layers.begin(), layers.end(), holds<HeadPoolParams>);
    if (head == layers.end()) return ChainMismatch{std::nullopt, std::string("expected ") + expected_layers + ", got no head"};
    const size_t head_index = static_cast<size_t>(head - layers.begin());
    for (size_t index = 0; index < layers.size(); ++index) {
        const NetworkLayer& layer = layers[index];
        const bool in_place = holds<StemParams>(layer)               ? index == 0
                              : holds<InvertedResidualParams>(layer) ? index < head_index
                              : holds<HeadPoolParams>(layer)         ? index == head_index
                                                                     : index == head_index + 1;
        if (!in_place)
            return ChainMismatch{index,
                                 std::string("expected ") + expected_layers + ", got " + kind_names[layer.params.index()]};
        if (index == 0) continue;
        const int64_t before = channels_of(layers[index - 1].params).out, channels = channels_of(layer.params).in;
        if (channels != before)
            return ChainMismatch{index,
                                 "expected " + std::to_string(before) + " input channels, got " + std::to_string(channels)};
    }
    return std::nullopt;
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
                if (layer.same_padding && params.stride > 1) params.padding = same_padding(height, width, params.stride);
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
