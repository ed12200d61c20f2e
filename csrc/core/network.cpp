#include "core/network.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <optional>

#include "core/packed_header.h"
#include "core/sizes.h"

namespace mnv2 {
namespace {

constexpr int64_t line_bytes = 64;

int64_t on_line(int64_t bytes)
{
    return round_up(bytes, line_bytes);
}

// Nothing where no packer wrote such a header.
std::optional<Layer> layer_of(const PackedHeader& header, bool is_same_padded)
{
    const PackedOptions& options = header.options;
    const auto* const kind = std::find(std::begin(packed_kinds), std::end(packed_kinds), header.kind);
    const std::optional<Activation> activation = activation_numbered(options.activation);
    const std::optional<Activation> depthwise_activation = activation_numbered(options.depthwise_activation);
    const std::optional<Activation> project_activation = activation_numbered(options.project_activation);
    const std::optional<Activation> squeeze_activation = activation_numbered(options.squeeze_activation);
    const std::optional<GateActivation> excite_activation = gate_activation_numbered(options.excite_activation);
    const std::optional<ScalarType> bytes_as = scalar_type_numbered(options.bytes_as - 1);
    if (kind == std::end(packed_kinds) || !is_plausible(header) || !activation || !depthwise_activation ||
        !project_activation || !squeeze_activation || !excite_activation || (options.bytes_as && !bytes_as))
        return std::nullopt;
    Layer layer;
    layer.kind = static_cast<LayerKind>(kind - std::begin(packed_kinds));
    layer.in_channels = header.in_channels;
    layer.expanded_channels = header.expanded_channels;
    layer.out_channels = header.out_channels;
    layer.activation = *activation;
    if (layer.kind == LayerKind::stem || layer.kind == LayerKind::block) {
        layer.kernel = options.kernel;
        layer.stride = options.stride;
        layer.is_same_padded = is_same_padded;
        if (!is_same_padded)
            layer.padding = {options.padding_top, options.padding_left, options.padding_bottom, options.padding_right};
    }
    if (layer.kind == LayerKind::stem) layer.bytes_as = bytes_as;
    if (layer.kind == LayerKind::block) {
        if (*depthwise_activation != *activation) layer.depthwise_activation = *depthwise_activation;
        layer.project_activation = *project_activation;
        layer.has_expand = options.has_expand;
        layer.squeezed_channels = header.squeezed_channels;
        layer.squeeze_activation = *squeeze_activation;
        layer.excite_activation = *excite_activation;
        layer.has_residual = options.has_residual;
    }
    return find_error(layer) ? std::nullopt : std::optional(layer);
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

// Puts one layer of a packed network behind the others; returns what is wrong with its bytes.
std::string add_layer(const char* network, const PackedLayer& layer, std::vector<NetworkLayer>& layers)
{
    const auto named = [&](const std::string& text) { return of_layer(layers.size(), text); };
    if (layer.bytes < header_bytes) return named("expected packed weights, got " + std::to_string(layer.bytes) + " bytes");
    const PackedHeader header = read_header(layer.data);
    const std::optional<Layer> read = layer_of(header, layer.same_padding);
    if (!read) return named("expected packed weights of a layer, got bytes of another format");
    NetworkLayer found = to_network_layer(*read);
    found.packed_at = static_cast<const char*>(layer.data) - network;
    const std::string mismatch =
        std::visit([&](const auto& params) { return packed_mismatch(layer.data, layer.bytes, params); }, found.params);
    if (!mismatch.empty()) return named(mismatch);
    if (!layers.empty() && header.isa != packed_isa(network + layers.front().packed_at))
        return named("expected the first layer's instruction set, got another one");
    layers.push_back(found);
    return {};
}

// Layers of a packed network start with this, so that their bytes are known before they are read.
struct LayerPrefix {
    int64_t bytes;
    int64_t same_padding;
};
static_assert(sizeof(LayerPrefix) <= line_bytes);

}  // namespace

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
    if (bytes < header_bytes) return "expected packed layers, got " + std::to_string(bytes) + " bytes";
    const PackedHeader header = read_header(packed);
    if (!is_plausible(header)) return "expected packed layers, got bytes of another format";
    if (header.kind != PackedKind::network) return "expected packed layers, got " + describe(header);
    const auto* from = static_cast<const char*>(packed);
    int64_t offset = header_bytes;
    layers.reserve(static_cast<size_t>(std::clamp<int64_t>(header.expanded_channels, 0, bytes / (line_bytes + header_bytes))));
    while (offset + line_bytes <= bytes) {
        LayerPrefix prefix;
        std::memcpy(&prefix, from + offset, sizeof prefix);
        offset += line_bytes;
        if (prefix.bytes < 0 || prefix.bytes > bytes - offset) break;
        const std::string mismatch = add_layer(from, {from + offset, prefix.bytes, prefix.same_padding != 0}, layers);
        if (!mismatch.empty()) return mismatch;
        offset += on_line(prefix.bytes);
    }
    if (offset != bytes || static_cast<int64_t>(layers.size()) != header.expanded_channels ||
        (!layers.empty() && packed_isa(from + layers.front().packed_at) != header.isa))
        return "expected all bytes of packed layers, got " + std::to_string(bytes);
    return chain_text(layers);
}

NetworkFrame::NetworkFrame(const void* packed, int64_t bytes, const std::vector<NetworkLayer>& layers) : bytes_(bytes)
{
    const auto add_line = [&](int64_t offset) {
        Line& line = lines_.emplace_back(Line{offset, {}});
        std::memcpy(line.content.data(), static_cast<const char*>(packed) + offset, line.content.size());
    };
    add_line(0);
    for (const NetworkLayer& layer : layers) {
        add_line(layer.packed_at - line_bytes);  // its prefix
        add_line(layer.packed_at);
    }
}

bool NetworkFrame::is_of(const void* packed, int64_t bytes) const
{
    return bytes == bytes_ && std::all_of(lines_.begin(), lines_.end(), [&](const Line& line) {
               return std::memcmp(static_cast<const char*>(packed) + line.offset, line.content.data(), line.content.size()) ==
                      0;
           });
}

}  // namespace mnv2
