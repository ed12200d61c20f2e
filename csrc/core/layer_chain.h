// The layers of a network as parameters: their order, channels and sizes, whatever format their weights have.
//
// A network is a chain: an optional stem, blocks, a head with its pool, and an optional linear layer.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/block.h"

namespace mnv2 {

using LayerParams = std::variant<StemParams, InvertedResidualParams, HeadPoolParams, LinearParams>;

// With same_padding a strided convolution is padded by the SAME rule for the size that it meets.
struct NetworkLayer {
    LayerParams params;  // without an image's size until set_image
    bool same_padding;
    const void* packed;
};

struct Channels {
    int64_t in, out;
};

Channels channels_of(const LayerParams& params);

// Why layers that are valid each by itself are no chain: "expected ..., got ...", and at which layer; without a layer where
// something is missing.
struct ChainMismatch {
    std::optional<size_t> layer;
    std::string text;
};

std::optional<ChainMismatch> chain_mismatch(const std::vector<NetworkLayer>& layers);

// Sets batch, sizes and SAME padding of every layer; false where an image does not fill some layer's window.
bool set_image(std::vector<NetworkLayer>& layers, int64_t batch, int64_t height, int64_t width);

}  // namespace mnv2
