// A whole network in one packed buffer: a header, then its layers' packed buffers one after the other, each on a cache line.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/layer_chain.h"
#include "core/packing.h"

namespace mnv2 {

// What pack_block, pack_stem, pack_head_pool or pack_linear wrote. With same_padding a convolution is padded by the
// SAME rule for the size that it meets, not as it was packed.
struct PackedLayer {
    const void* data;
    int64_t bytes;
    bool same_padding;
};

// For the layers of a chain, packed for one instruction set; at least one.
int64_t packed_network_bytes(std::span<const PackedLayer> layers);
void pack_network(std::span<const PackedLayer> layers, void* packed);

// Reads a packed network. Returns why these bytes are none, in the form "expected ..., got ..."; empty if they are one.
std::string read_network(const void* packed, int64_t bytes, std::vector<NetworkLayer>& layers);

// All that read_network reads of a packed network, which is none of its weights: bytes with the same frame hold the same layers
// at the same places.
class NetworkFrame {
public:
    // layers: as read_network read them.
    NetworkFrame(const void* packed, int64_t bytes, const std::vector<NetworkLayer>& layers);

    bool is_of(const void* packed, int64_t bytes) const;

private:
    struct Line {
        int64_t offset;
        std::array<char, header_bytes> content;
    };

    int64_t bytes_;
    std::vector<Line> lines_;
};

}  // namespace mnv2
