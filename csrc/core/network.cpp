#include "core/network.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "core/packed_header.h"

namespace mnv2 {
namespace {

constexpr int64_t line_bytes = 64;

int64_t on_line(int64_t bytes)
{
    return (bytes + line_bytes - 1) / line_bytes * line_bytes;
}

bool is_activation(int8_t value)
{
    return value >= static_cast<int8_t>(Activation::none) && value <= static_cast<int8_t>(Activation::relu6);
}

bool is_channels(int64_t value)
{
    return value >= 1 && value <= max_channels;
}

bool is_side(int8_t value)
{
    return value == 0 || value == 1;
}

bool are_plausible(const PackedOptions& options)
{
    return (options.stride == 1 || options.stride == 2) && is_side(options.padding_top) && is_side(options.padding_left) &&
           is_side(options.padding_bottom) && is_side(options.padding_right);
}

template <class Params>
void take_window(const PackedOptions& options, Params& params)
{
    params.stride = options.stride;
    params.padding = {options.padding_top, options.padding_left, options.padding_bottom, options.padding_right};
    params.activation = static_cast<Activation>(options.activation);
}

StemParams stem_of(const PackedHeader& header)
{
    StemParams params{};
    params.in_channels = header.in_channels;
    params.out_channels = header.out_channels;
    take_window(header.options, params);
    return params;
}

InvertedResidualParams block_of(const PackedHeader& header)
{
    InvertedResidualParams params{};
    params.in_channels = header.in_channels;
    params.expanded_channels = header.expanded_channels;
    params.out_channels = header.out_channels;
    take_window(header.options, params);
    params.project_activation = static_cast<Activation>(header.options.project_activation);
    params.has_expand = header.options.has_expand;
    params.has_residual = header.options.has_residual;
    return params;
}

// Nothing where no packer wrote such a header.
std::optional<LayerParams> layer_of(const PackedHeader& header)
{
    const PackedOptions& options = header.options;
    if (!is_plausible(header) || !is_channels(header.in_channels) || !is_channels(header.out_channels) ||
        !is_activation(options.activation) || !is_activation(options.project_activation))
        return std::nullopt;
    switch (header.kind) {
        case PackedKind::stem: return are_plausible(options) ? std::optional<LayerParams>(stem_of(header)) : std::nullopt;
        case PackedKind::block: {
            const InvertedResidualParams params = block_of(header);
            const bool valid = are_plausible(options) && is_channels(params.expanded_channels) &&
                               (params.has_expand || params.expanded_channels == params.in_channels) &&
                               (!params.has_residual || allows_residual(params));
            return valid ? std::optional<LayerParams>(params) : std::nullopt;
        }
        case PackedKind::head_pool: {
            HeadPoolParams params{};
            params.in_channels = header.in_channels;
            params.out_channels = header.out_channels;
            params.activation = static_cast<Activation>(options.activation);
            return params;
        }
        case PackedKind::linear: return LinearParams{0, header.in_channels, header.out_channels};
        case PackedKind::network: break;
    }
    return std::nullopt;
}

std::string of_layer(size_t index, const std::string& text)
{
    return "layer " + std::to_string(index) + ": " + text;
}

// Why layers that are valid each by itself are no chain; empty where they are one.
std::string chain_text(const std::vector<NetworkLayer>& layers)
{
    const std::optional<ChainMismatch> mismatch = chain_mismatch(layers);
    if (!mismatch) return {};
    return mismatch->layer ? of_layer(*mismatch->layer, mismatch->text) : mismatch->text;
}

// Puts one layer behind the others; returns what is wrong with its bytes.
std::string add_layer(const PackedLayer& layer, std::vector<NetworkLayer>& layers)
{
    const auto named = [&](const std::string& text) { return of_layer(layers.size(), text); };
    if (layer.bytes < header_bytes) return named("expected packed weights, got " + std::to_string(layer.bytes) + " bytes");
    const PackedHeader header = read_header(layer.data);
    const std::optional<LayerParams> params = layer_of(header);
    if (!params) return named("expected packed weights of a layer, got bytes of another format");
    const std::string mismatch =
        std::visit([&](const auto& each) { return packed_mismatch(layer.data, layer.bytes, each); }, *params);
    if (!mismatch.empty()) return named(mismatch);
    if (!layers.empty() && header.isa != packed_isa(layers.front().packed))
        return named("expected the first layer's instruction set, got another one");
    layers.push_back({*params, layer.same_padding, layer.data});
    return {};
}

// Layers of a packed network start with this, so that their bytes are known before they are read.
struct LayerPrefix {
    int64_t bytes;
    int64_t same_padding;
};
static_assert(sizeof(LayerPrefix) <= line_bytes);

}  // namespace

std::string network_mismatch(std::span<const PackedLayer> layers)
{
    std::vector<NetworkLayer> read;
    for (const PackedLayer& layer : layers) {
        const std::string mismatch = add_layer(layer, read);
        if (!mismatch.empty()) return mismatch;
    }
    return chain_text(read);
}

int64_t packed_network_bytes(std::span<const PackedLayer> layers)
{
    int64_t bytes = header_bytes;
    for (const PackedLayer& layer : layers) bytes += line_bytes + on_line(layer.bytes);
    return bytes;
}

void pack_network(std::span<const PackedLayer> layers, void* packed)
{
    const PackedHeader first = read_header(layers.front().data), last = read_header(layers.back().data);
    PackedHeader header{};
    header.magic = packed_magic;
    header.kind = PackedKind::network;
    header.isa = first.isa;
    header.vector_width = first.vector_width;
    header.in_channels = first.in_channels;
    header.expanded_channels = static_cast<int64_t>(layers.size());
    header.out_channels = last.out_channels;
    auto* to = static_cast<char*>(write_header(header, packed));
    for (const PackedLayer& layer : layers) {
        const LayerPrefix prefix{layer.bytes, layer.same_padding};
        std::memset(to, 0, static_cast<size_t>(line_bytes + on_line(layer.bytes)));
        std::memcpy(to, &prefix, sizeof prefix);
        std::memcpy(to + line_bytes, layer.data, static_cast<size_t>(layer.bytes));
        to += line_bytes + on_line(layer.bytes);
    }
}

std::string read_network(const void* packed, int64_t bytes, std::vector<NetworkLayer>& layers)
{
    layers.clear();
    if (bytes < header_bytes) return "expected a packed network, got " + std::to_string(bytes) + " bytes";
    const PackedHeader header = read_header(packed);
    if (!is_plausible(header)) return "expected a packed network, got bytes of another format";
    if (header.kind != PackedKind::network) return "expected a packed network, got " + describe(header);
    const auto* from = static_cast<const char*>(packed);
    int64_t offset = header_bytes;
    layers.reserve(static_cast<size_t>(std::clamp<int64_t>(header.expanded_channels, 0, bytes / (line_bytes + header_bytes))));
    while (offset + line_bytes <= bytes) {
        LayerPrefix prefix;
        std::memcpy(&prefix, from + offset, sizeof prefix);
        offset += line_bytes;
        if (prefix.bytes < 0 || prefix.bytes > bytes - offset) break;
        const std::string mismatch = add_layer({from + offset, prefix.bytes, prefix.same_padding != 0}, layers);
        if (!mismatch.empty()) return mismatch;
        offset += on_line(prefix.bytes);
    }
    if (offset != bytes || static_cast<int64_t>(layers.size()) != header.expanded_channels ||
        (!layers.empty() && packed_isa(layers.front().packed) != header.isa))
        return "expected all of a network's bytes, got " + std::to_string(bytes);
    return chain_text(layers);
}

}  // namespace mnv2
