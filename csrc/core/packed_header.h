// What stands in front of every packed buffer: whose weights they are, for which instruction set, and the options that they
// were packed with.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string>

#include "core/layer.h"
#include "core/packing.h"

namespace mnv2 {

enum class PackedKind : int32_t { block, stem, head_pool, linear, network };

// In the order of LayerKind.
constexpr PackedKind packed_kinds[] = {PackedKind::stem, PackedKind::block, PackedKind::head_pool, PackedKind::linear};

// Bytes that no other tensor starts with by accident; the last one is the format's version.
constexpr std::array<char, 8> packed_magic = {'m', 'n', 'v', '2', 'p', 'k', '\0', '\7'};

struct PackedOptions {
    int8_t stride, padding_top, padding_left, padding_bottom, padding_right;
    int8_t activation, project_activation;
    int8_t has_expand, has_residual;
    int8_t kernel;
    int8_t depthwise_activation;  // the number that it has, also where it is that of the expand
    int8_t squeeze_activation, excite_activation;
    int8_t bytes_as;  // one more than the type's number; 0 where images are of floats
};

struct PackedHeader {
    std::array<char, 8> magic;
    PackedKind kind;
    Isa isa;
    int32_t vector_width;
    int32_t squeezed_channels;
    PackedOptions options;
    int64_t in_channels, expanded_channels, out_channels;  // in a network's header expanded_channels counts layers
};
static_assert(sizeof(PackedHeader) <= header_bytes);

inline PackedHeader read_header(const void* packed)
{
    PackedHeader header;
    std::memcpy(&header, packed, sizeof header);
    return header;
}

// Writes the header and returns what follows.
void* write_header(const PackedHeader& header, void* packed);

// Whether this is a header that this version of the format wrote, as far as can be seen without its weights.
bool is_plausible(const PackedHeader& header);

std::string describe(const PackedHeader& header);

}  // namespace mnv2
