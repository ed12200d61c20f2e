// The layers of a network as parameters: their order, channels and sizes, whatever format their weights have.
//
// A chain is any run of a network's layers: a stem, blocks, a head with its pool and linear layers, or a part of that.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/block.h"
#include "core/layer.h"

namespace mnv2 {

using LayerParams = std::variant<StemParams, InvertedResidualParams, HeadPoolParams, LinearParams>;

// With same_padding a convolution is padded by the SAME rule for the size that it meets.
struct NetworkLayer {
    LayerParams params;  // without an image's size until set_image
    bool same_padding;
    Arithmetic arithmetic = Arithmetic::floats;
    int64_t packed_at = 0;  // where the layer's packed bytes begin in the network's
};

// A layer that find_error accepts, without an image's size, and back.
NetworkLayer to_network_layer(const Layer& layer);
Layer to_layer(const NetworkLayer& layer);

struct Channels {
    int64_t in, out;
};

Channels channels_of(const LayerParams& params);

// Why layers that are valid each by itself are no chain: "expected ..., got ...", and at which layer; without a layer where
// there are none.
struct ChainMismatch {
    std::optional<size_t> layer;
    std::string text;
};

std::optional<ChainMismatch> chain_mismatch(const std::vector<NetworkLayer>& layers);

// Whether a chain's result is (N, C, H, W), not (N, C), and its height and width, of layers completed by set_image.
bool ends_in_image(const std::vector<NetworkLayer>& layers);

struct ImageSize {
    int64_t height, width;
};

ImageSize result_size(const NetworkLayer& layer);

// Whether both are the same layers, whatever their images and weights; and their text.
bool are_same(const std::vector<NetworkLayer>& layers, const std::vector<NetworkLayer>& others);
std::string text_of(const std::vector<NetworkLayer>& layers);

// Which of a layer's options a backend has kernels for, beyond those of MobileNetV2, which all have. Each backend says it once.
struct ServedOptions {
    const char* backend;                // as errors name it
    bool kernels = false;               // windows of 5x5 and 7x7
    bool curves = false;                // hardswish and silu
    bool depthwise_activation = false;  // another one than the expand's
    bool gates = false;
    bool linear_activation = false;
    bool linear_chains = false;  // a linear layer behind another one
    bool bytes = false;          // images of bytes into a stem of floats
};

// The first option of these layers that has no kernel there. The argument names the layer where there are several.
std::optional<LayerError> find_unserved(const std::vector<NetworkLayer>& layers, const ServedOptions& served);

// The type of the numbers that the bytes of these layers' images stand for; none where the images are of numbers.
std::optional<ScalarType> bytes_as(const std::vector<NetworkLayer>& layers);

// Sets batch, sizes and SAME padding of every layer; false where an image does not fill some layer's window.
bool set_image(std::vector<NetworkLayer>& layers, int64_t batch, int64_t height, int64_t width);

}  // namespace mnv2
