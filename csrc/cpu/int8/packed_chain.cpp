#include "cpu/int8/packed_chain.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>
#include <variant>

#include "core/sizes.h"
#include "cpu/int8/packing.h"

namespace mnv2::cpu::int8 {
namespace {

constexpr int64_t line_bytes = 64;

// Bytes that no other tensor starts with by accident; the last one is the format's version.
constexpr std::array<char, 8> chain_magic = {'m', 'n', 'v', '2', 'i', '8', '\0', '\3'};

struct ChainHeader {
    std::array<char, 8> magic;
    Isa isa;
    int32_t isa_complement;  // a damaged number would be another set's
    int64_t text_bytes;
};
static_assert(sizeof(ChainHeader) <= line_bytes);

}  // namespace

int64_t place_layers(std::vector<NetworkLayer>& layers, const Format& format)
{
    int64_t at = line_bytes + round_up(static_cast<int64_t>(text_of(layers).size()), line_bytes);
    for (NetworkLayer& layer : layers) {
        layer.packed_at = at;
        const auto bytes = [&](const auto& params) { return packed_bytes(params, format); };
        at += round_up(std::visit(bytes, layer.params), line_bytes);
    }
    return at;
}

void write_chain_header(const std::vector<NetworkLayer>& layers, const Format& format, void* packed)
{
    const std::string text = text_of(layers);
    const ChainHeader header{chain_magic, format.isa, ~static_cast<int32_t>(format.isa), static_cast<int64_t>(text.size())};
    auto* const to = static_cast<char*>(packed);
    std::memset(to, 0, static_cast<size_t>(layers.front().packed_at));
    std::memcpy(to, &header, sizeof header);
    std::memcpy(to + line_bytes, text.data(), text.size());
}

std::string chain_mismatch(const std::vector<NetworkLayer>& layers, const void* packed, int64_t bytes, Isa& isa)
{
    if (bytes < line_bytes) return "expected packed int8 layers, got " + std::to_string(bytes) + " bytes";
    ChainHeader header;
    std::memcpy(&header, packed, sizeof header);
    const auto number = static_cast<int32_t>(header.isa);
    const bool is_header = header.magic == chain_magic && number >= 0 && number < static_cast<int32_t>(std::size(formats)) &&
                           header.isa_complement == ~number && header.text_bytes >= 0 &&
                           header.text_bytes <= bytes - line_bytes;
    const auto* const begin = static_cast<const char*>(packed) + line_bytes;
    if (!is_header || !std::all_of(begin, begin + header.text_bytes, [](char c) { return c >= ' ' && c <= '~'; }))
        return "expected packed int8 layers, got bytes of another format";
    const std::string text = text_of(layers);
    const std::string found(begin, static_cast<size_t>(header.text_bytes));
    if (found != text) return "expected weights of " + text + ", got those of " + found;
    isa = header.isa;
    std::vector<NetworkLayer> placed = layers;
    const int64_t needed = place_layers(placed, format_of(isa));
    if (bytes != needed) return "expected " + std::to_string(needed) + " bytes, got " + std::to_string(bytes);
    return {};
}

}  // namespace mnv2::cpu::int8
