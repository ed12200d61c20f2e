#include "core/packing.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "core/layer_chain.h"
#include "core/packed_header.h"

#define MNV2_ISA packing
#include "core/half-inl.h"

namespace mnv2 {
namespace {

using cpu::packing::BFloat16;
using cpu::packing::from_float;
using cpu::packing::Half;
using cpu::packing::to_float;

// A damaged header may have any number for a kind.
constexpr const char* kind_name(PackedKind kind)
{
    constexpr const char* names[] = {"a block", "a stem", "a head", "a linear layer", "a network"};
    const auto index = static_cast<size_t>(kind);
    return index < std::size(names) ? names[index] : "something else";
}

int64_t dense_floats(int64_t depth, int64_t out_channels, const PackLayout& layout)
{
    return round_up(out_channels, layout.vector_width) * (depth + 2);
}

int64_t panel_width(const PackLayout& layout)
{
    return static_cast<int64_t>(layout.panel_vectors) * layout.vector_width;
}

int64_t pointwise_floats(int64_t depth, int64_t out_channels, const PackLayout& layout)
{
    const int64_t rest = out_channels % panel_width(layout);
    return panel_floats(depth, out_channels - rest, layout) + panel_floats(depth, rest, layout);
}

// Consecutive channels of a layer, as many as a panel or a vector holds.
struct Columns {
    const ConvolutionWeights& from;
    int64_t depth, channels, first, width;

    int64_t count() const { return std::min(width, channels - first); }
    float weight(int64_t i, int64_t k) const { return from.weight[(first + i) * depth + k]; }
};

// Writes scale[width] and bias[width] of a panel, and zeros to all of its floats behind them. Returns what follows the bias.
float* pack_scales(const Columns& columns, int64_t floats, float* to)
{
    std::fill_n(to, floats, 0.0f);
    for (int64_t i = 0; i < columns.count(); ++i) {
        to[i] = columns.from.scale_of(columns.first + i);
        to[columns.width + i] = columns.from.bias_of(columns.first + i);
    }
    return to + 2 * columns.width;
}

// The weights behind pack_scales, GROUP depths of a channel side by side: weight[depth / GROUP][width][GROUP].
template <int64_t GROUP, class T>
void pack_groups(const Columns& columns, int64_t width, T* to)
{
    for (int64_t i = 0; i < columns.count(); ++i)
        for (int64_t k = 0; k < columns.depth; ++k)
            from_float(columns.weight(i, k), to + (k / GROUP * width + i) * GROUP + k % GROUP);
}

// A matrix tile of weights: sixteen rows of pairs of depths of sixteen channels.
constexpr int64_t tile_channels = 16, tile_depths = 32;

void pack_tiles(const Columns& columns, BFloat16* to)
{
    for (int64_t i = 0; i < columns.count(); ++i)
        for (int64_t k = 0; k < columns.depth; ++k) {
            const int64_t tile = k / tile_depths * 2 + i / tile_channels, row = tile * tile_depths / 2 + k % tile_depths / 2;
            from_float(columns.weight(i, k), to + (row * tile_channels + i % tile_channels) * 2 + k % 2);
        }
}

void pack_bfloat16(const Columns& columns, Isa isa, BFloat16* to)
{
    if (isa == Isa::amx_bf16) return pack_tiles(columns, to);
    if (isa == Isa::avx512_bf16) return pack_groups<2>(columns, columns.width, to);
    pack_groups<4>(columns, columns.width, to);
}

void pack_dense(const ConvolutionWeights& from, int64_t depth, int64_t channels, int64_t panel, const PackLayout& layout,
                float* to)
{
    const int64_t padded = round_up(channels, layout.vector_width);
    for (int64_t first = 0; first < padded; first += panel) {
        const Columns columns{from, depth, channels, first, std::min(panel, padded - first)};
        const int64_t floats = columns.width * (depth + 2);
        pack_groups<1>(columns, columns.width, pack_scales(columns, floats, to));
        to += floats;
    }
}

void pack_float32(const Columns& columns, const PackLayout& layout, float* to)
{
    if (!has_two_depths(columns.count(), layout)) return pack_groups<1>(columns, columns.width, to);
    pack_groups<2>(columns, round_up(columns.count(), layout.vector_width / 2), to);
}

void pack_pointwise(const ConvolutionWeights& from, int64_t depth, int64_t channels, const PackLayout& layout, float* to)
{
    const int64_t padded = round_up(channels, layout.vector_width), panel = panel_width(layout);
    for (int64_t first = 0; first < padded; first += panel) {
        const Columns columns{from, depth, channels, first, std::min(panel, padded - first)};
        const int64_t floats = panel_floats(depth, columns.count(), layout);
        float* weights = pack_scales(columns, floats, to);
        switch (layout.stored) {
            case ScalarType::float32: pack_float32(columns, layout, weights); break;
            case ScalarType::float16: pack_groups<1>(columns, columns.width, reinterpret_cast<Half*>(weights)); break;
            case ScalarType::bfloat16: pack_bfloat16(columns, layout.isa, reinterpret_cast<BFloat16*>(weights)); break;
        }
        to += floats;
    }
}

template <class T>
void round_values(const float* from, int64_t count, float* to)
{
    for (int64_t i = 0; i < count; ++i) {
        T rounded;
        from_float(from[i], &rounded);
        to[i] = to_float(rounded);
    }
}

void pack_table(const float* table, int64_t floats, ScalarType type, float* to)
{
    switch (type) {
        case ScalarType::float32: std::copy_n(table, floats, to); break;
        case ScalarType::float16: round_values<Half>(table, floats, to); break;
        case ScalarType::bfloat16: round_values<BFloat16>(table, floats, to); break;
    }
}

int64_t table_floats(const StemParams& params)
{
    return params.bytes_as ? params.in_channels * byte_values : 0;
}

template <class Params>
PackedHeader header_of(const Params& params)
{
    const Layer layer = to_layer({params, false});
    const bool is_block = layer.kind == LayerKind::block;
    PackedHeader header{};
    header.magic = packed_magic;
    header.kind = packed_kinds[static_cast<size_t>(layer.kind)];
    header.in_channels = layer.in_channels;
    header.expanded_channels = layer.expanded_channels;
    header.out_channels = layer.out_channels;
    PackedOptions& options = header.options;
    if (is_block || layer.kind == LayerKind::stem) {
        options.kernel = static_cast<int8_t>(layer.kernel);
        options.stride = static_cast<int8_t>(layer.stride);
        options.padding_top = static_cast<int8_t>(layer.padding.top);
        options.padding_left = static_cast<int8_t>(layer.padding.left);
        options.padding_bottom = static_cast<int8_t>(layer.padding.bottom);
        options.padding_right = static_cast<int8_t>(layer.padding.right);
    }
    options.activation = static_cast<int8_t>(layer.activation);
    options.depthwise_activation = static_cast<int8_t>(layer.depthwise_activation.value_or(layer.activation));
    options.project_activation = static_cast<int8_t>(layer.project_activation);
    options.has_expand = is_block && layer.has_expand;
    options.has_residual = layer.has_residual;
    options.squeeze_activation = static_cast<int8_t>(layer.squeeze_activation);
    options.excite_activation = static_cast<int8_t>(layer.excite_activation);
    if (layer.bytes_as) options.bytes_as = static_cast<int8_t>(static_cast<int32_t>(*layer.bytes_as) + 1);
    header.squeezed_channels = static_cast<int32_t>(layer.squeezed_channels);
    return header;
}

float* start_packing(PackedHeader header, const PackLayout& layout, void* packed)
{
    header.isa = layout.isa;
    header.vector_width = layout.vector_width;
    return static_cast<float*>(write_header(header, packed));
}

}  // namespace

void* write_header(const PackedHeader& header, void* packed)
{
    std::memset(packed, 0, header_bytes);
    std::memcpy(packed, &header, sizeof header);
    return static_cast<char*>(packed) + header_bytes;
}

bool is_plausible(const PackedHeader& header)
{
    // A damaged header must not send a kernel past the end.
    const IsaFormat* const format = find_format(header.isa);
    return header.magic == packed_magic && format && header.vector_width == format->vector_width;
}

std::string describe(const PackedHeader& header)
{
    std::string text = std::string(kind_name(header.kind)) + " with channels " + std::to_string(header.in_channels);
    if (header.kind == PackedKind::block)
        text += (header.options.has_expand ? " -> " : " -> (no expand) ") + std::to_string(header.expanded_channels);
    text += " -> " + std::to_string(header.out_channels);
    if (header.options.kernel > kernel_size) text += ", kernel " + std::to_string(header.options.kernel);
    if (header.options.bytes_as) text += ", image of bytes";
    if (header.squeezed_channels) text += ", gate of " + std::to_string(header.squeezed_channels);
    return text;
}

BlockOffsets block_offsets(const InvertedResidualParams& params, const PackLayout& layout)
{
    const int64_t expanded = params.expanded_channels, squeezed = params.squeezed_channels;
    BlockOffsets offsets{};
    offsets.depthwise = params.has_expand ? pointwise_floats(params.in_channels, expanded, layout) : 0;
    offsets.project = offsets.depthwise + dense_floats(params.taps(), expanded, layout);
    offsets.squeeze = offsets.project + pointwise_floats(expanded, params.out_channels, layout);
    offsets.excite = offsets.squeeze + (params.has_gate() ? pointwise_floats(expanded, squeezed, layout) : 0);
    offsets.end = offsets.excite + (params.has_gate() ? pointwise_floats(squeezed, expanded, layout) : 0);
    return offsets;
}

int64_t packed_bytes(const InvertedResidualParams& params, const PackLayout& layout)
{
    return header_bytes + block_offsets(params, layout).end * static_cast<int64_t>(sizeof(float));
}

int64_t table_offset(const StemParams& params, const PackLayout& layout)
{
    return dense_floats(params.taps() * params.in_channels, params.out_channels, layout);
}

int64_t packed_bytes(const StemParams& params, const PackLayout& layout)
{
    const int64_t floats = table_offset(params, layout) + table_floats(params);
    return header_bytes + floats * static_cast<int64_t>(sizeof(float));
}

int64_t packed_bytes(const HeadPoolParams& params, const PackLayout& layout)
{
    const int64_t floats = pointwise_floats(params.in_channels, params.out_channels, layout);
    return header_bytes + floats * static_cast<int64_t>(sizeof(float));
}

int64_t packed_bytes(const LinearParams& params, const PackLayout& layout)
{
    const int64_t floats = pointwise_floats(params.in_features, params.out_features, layout);
    return header_bytes + floats * static_cast<int64_t>(sizeof(float));
}

void pack_block(const InvertedResidualParams& params, const BlockConvolutions& weights, const PackLayout& layout, void* packed)
{
    float* values = start_packing(header_of(params), layout, packed);
    const BlockOffsets offsets = block_offsets(params, layout);
    const int64_t expanded = params.expanded_channels, squeezed = params.squeezed_channels;
    if (params.has_expand) pack_pointwise(weights.expand, params.in_channels, expanded, layout, values + offsets.expand);
    pack_dense(weights.depthwise, params.taps(), expanded, layout.vector_width, layout, values + offsets.depthwise);
    pack_pointwise(weights.project, expanded, params.out_channels, layout, values + offsets.project);
    if (!params.has_gate()) return;
    pack_pointwise(weights.squeeze, expanded, squeezed, layout, values + offsets.squeeze);
    pack_pointwise(weights.excite, squeezed, expanded, layout, values + offsets.excite);
}

void pack_stem(const StemParams& params, const ConvolutionWeights& weights, const PackLayout& layout, void* packed,
               const float* table)
{
    float* values = start_packing(header_of(params), layout, packed);
    pack_dense(weights, params.taps() * params.in_channels, params.out_channels, panel_width(layout), layout, values);
    if (params.bytes_as) pack_table(table, table_floats(params), *params.bytes_as, values + table_offset(params, layout));
}

void pack_head_pool(const HeadPoolParams& params, const ConvolutionWeights& weights, const PackLayout& layout, void* packed)
{
    float* values = start_packing(header_of(params), layout, packed);
    pack_pointwise(weights, params.in_channels, params.out_channels, layout, values);
}

void pack_linear(const LinearParams& params, const ConvolutionWeights& weights, const PackLayout& layout, void* packed)
{
    float* values = start_packing(header_of(params), layout, packed);
    pack_pointwise(weights, params.in_features, params.out_features, layout, values);
}

Isa packed_isa(const void* packed)
{
    return read_header(packed).isa;
}

PackLayout packed_layout(const void* packed)
{
    const PackedHeader header = read_header(packed);
    const IsaFormat& format = format_of(header.isa);
    return {header.isa, header.vector_width, format.panel_vectors, format.stored};
}

template <class Params>
std::string packed_mismatch(const void* packed, int64_t bytes, const Params& params)
{
    if (bytes < header_bytes) return "expected packed weights, got " + std::to_string(bytes) + " bytes";
    const PackedHeader found = read_header(packed), wanted = header_of(params);
    if (!is_plausible(found)) return "expected packed weights, got bytes of another format";
    if (found.kind != wanted.kind || found.options.has_expand != wanted.options.has_expand ||
        found.options.kernel != wanted.options.kernel || found.options.bytes_as != wanted.options.bytes_as ||
        found.squeezed_channels != wanted.squeezed_channels || found.in_channels != wanted.in_channels ||
        found.expanded_channels != wanted.expanded_channels || found.out_channels != wanted.out_channels)
        return "expected weights of " + describe(wanted) + ", got " + describe(found);
    const int64_t needed = packed_bytes(params, packed_layout(packed));
    if (bytes != needed) return "expected " + std::to_string(needed) + " bytes, got " + std::to_string(bytes);
    return {};
}

template std::string packed_mismatch(const void*, int64_t, const InvertedResidualParams&);
template std::string packed_mismatch(const void*, int64_t, const StemParams&);
template std::string packed_mismatch(const void*, int64_t, const HeadPoolParams&);
template std::string packed_mismatch(const void*, int64_t, const LinearParams&);

}  // namespace mnv2
