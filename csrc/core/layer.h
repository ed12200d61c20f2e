// One layer of a network: what it computes, whatever its image, its weights' format and its device. Its text form crosses from
// Python to the operators; mnv2_kernels/layer.py has the same fields, names and text.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/block.h"

namespace mnv2 {

enum class LayerKind : int32_t { stem, block, head_pool, linear };

constexpr const char* layer_kind_name(LayerKind kind)
{
    constexpr const char* names[] = {"stem", "block", "head_pool", "linear"};
    return names[static_cast<int32_t>(kind)];
}

// What a layer computes with: floats of its tensors' dtype, or bytes (cpu/int8/format.h has the formulas).
enum class Arithmetic : int32_t { floats, int8 };

constexpr const char* arithmetic_name(Arithmetic arithmetic)
{
    return arithmetic == Arithmetic::int8 ? "int8" : "float";
}

// In the text of a layer of bytes, and of no other.
constexpr const char* int8_option = "arithmetic=int8";

constexpr const char* expected_kinds = "a stem, block, head_pool or linear";

// Fields that a kind does not have keep their defaults. expanded_channels is 0 but in blocks; without an expand it equals
// in_channels. kernel is of the depthwise convolution, or the stem's. With is_same_padded a convolution is padded by
// TensorFlow's SAME rule for the image that it meets. depthwise_activation is never `activation` itself, which stands for both
// where there is none. squeezed_channels is 0 without a gate. A stem with bytes_as reads uint8, and takes what each byte of
// each channel stands for from a table, rounded to that type; its result, or its chain's, is of that type.
struct Layer {
    LayerKind kind = LayerKind::block;
    int64_t in_channels = 0, expanded_channels = 0, out_channels = 0;
    int32_t kernel = kernel_size;
    int32_t stride = 1;
    Padding padding;
    bool is_same_padded = false;
    Activation activation = Activation::relu6;  // default_activation of the kind
    std::optional<Activation> depthwise_activation;
    Activation project_activation = Activation::none;
    bool has_expand = true;
    int64_t squeezed_channels = 0;
    Activation squeeze_activation = Activation::relu;
    GateActivation excite_activation = GateActivation::sigmoid;
    bool has_residual = false;
    Arithmetic arithmetic = Arithmetic::floats;
    std::optional<ScalarType> bytes_as;

    bool operator==(const Layer&) const = default;
};

// What a kind has where its text names none.
constexpr Activation default_activation(LayerKind kind)
{
    return kind == LayerKind::linear ? Activation::none : Activation::relu6;
}

// What is wrong with one argument: the reason is "expected ..., got ...".
struct LayerError {
    std::string argument, reason;
};

LayerError layer_error(std::string argument, const std::string& expected, const std::string& got);

// The first field that no kernel takes.
std::optional<LayerError> find_error(const Layer& layer);

// Reads one option of a layer's text or an operator into its field.
std::optional<LayerError> set_activation(std::string_view name, Activation& activation, const char* argument);
std::optional<LayerError> set_excite_activation(std::string_view name, GateActivation& activation);
std::optional<LayerError> set_kernel(int64_t value, int32_t& kernel);
std::optional<LayerError> set_padding(std::span<const int64_t> sides, int32_t kernel, Padding& padding);
std::optional<LayerError> set_stride(int64_t value, int32_t& stride);

// depthwise_activation, by its name, of a layer whose activation is known.
std::optional<LayerError> set_depthwise_activation(std::string_view name, Layer& layer);

// "block in_channels=24 expanded_channels=144 out_channels=32 stride=2 padding=same activation=relu6": a layer's kind and its
// options by name, in the order of Layer's fields, those at their defaults left out; flags are 0 or 1, a padding is
// top,left,bottom,right or same.
std::string text_of(const Layer& layer);

// Layers, separated by "; ". Errors' arguments are "layers[2]: stride" or "layers[2]", of a single layer "stride" or "layers".
std::string text_of(std::span<const Layer> layers);
std::optional<LayerError> read_layers(std::string_view text, std::vector<Layer>& layers);

}  // namespace mnv2
