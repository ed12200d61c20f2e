// Shapes and options of the operators as plain data: the only header that crosses from csrc/torch to the kernels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <optional>
#include <string_view>

#include "core/sizes.h"

namespace mnv2 {

enum class ScalarType : int32_t { float32, float16, bfloat16 };

constexpr const char* scalar_type_name(ScalarType type)
{
    constexpr const char* names[] = {"float32", "float16", "bfloat16"};
    return names[static_cast<int32_t>(type)];
}

constexpr std::optional<ScalarType> scalar_type_named(std::string_view name)
{
    for (const ScalarType type : {ScalarType::float32, ScalarType::float16, ScalarType::bfloat16})
        if (name == scalar_type_name(type)) return type;
    return std::nullopt;
}

// The kernels apply it as min(high, max(low, x)) with x as the second operand, which on x86 returns x when x is NaN.
struct Clamp {
    float low, high;
};

enum class Activation : int32_t { none, relu, relu6, hardswish, silu };

// What follows the clamp of an activation: nothing, or a product with the value itself.
enum class Curve : int32_t {
    none,
    hardswish,  // x * clamp(x + 3, 0, 6) / 6
    silu,       // x / (1 + exp(-x))
};

struct ActivationEntry {
    const char* name;  // that operators and introspection take
    Clamp clamp;
    Curve curve = Curve::none;
};

constexpr float infinity = std::numeric_limits<float>::infinity();

// In the order of the enumeration.
constexpr ActivationEntry activation_table[] = {
    {"none", {-infinity, infinity}},
    {"relu", {0.0f, infinity}},
    {"relu6", {0.0f, 6.0f}},
    {"hardswish", {-infinity, infinity}, Curve::hardswish},
    {"silu", {-infinity, infinity}, Curve::silu},
};

constexpr const char* activation_name(Activation activation)
{
    return activation_table[static_cast<size_t>(activation)].name;
}

constexpr Clamp clamp_of(Activation activation)
{
    return activation_table[static_cast<size_t>(activation)].clamp;
}

constexpr Curve curve_of(Activation activation)
{
    return activation_table[static_cast<size_t>(activation)].curve;
}

// As GPUs do while they convert to 16 bits: kernels that rely on it bring the upper bound alone.
constexpr bool cuts_at_zero(Activation activation)
{
    return clamp_of(activation).low == 0.0f;
}

constexpr std::optional<Activation> activation_numbered(int32_t number)
{
    if (number < 0 || number >= static_cast<int32_t>(std::size(activation_table))) return std::nullopt;
    return static_cast<Activation>(number);
}

constexpr std::optional<Activation> activation_named(std::string_view name)
{
    for (size_t index = 0; index < std::size(activation_table); ++index)
        if (name == activation_table[index].name) return static_cast<Activation>(index);
    return std::nullopt;
}

// What a gate multiplies with: between 0 and 1.
enum class GateActivation : int32_t {
    sigmoid,      // 1 / (1 + exp(-x))
    hardsigmoid,  // clamp(x + 3, 0, 6) / 6
};

// In the order of the enumeration.
constexpr const char* gate_activation_names[] = {"sigmoid", "hardsigmoid"};

constexpr const char* gate_activation_name(GateActivation activation)
{
    return gate_activation_names[static_cast<size_t>(activation)];
}

constexpr std::optional<GateActivation> gate_activation_numbered(int32_t number)
{
    if (number < 0 || number >= static_cast<int32_t>(std::size(gate_activation_names))) return std::nullopt;
    return static_cast<GateActivation>(number);
}

constexpr std::optional<GateActivation> gate_activation_named(std::string_view name)
{
    for (size_t index = 0; index < std::size(gate_activation_names); ++index)
        if (name == gate_activation_names[index]) return static_cast<GateActivation>(index);
    return std::nullopt;
}

constexpr std::optional<ScalarType> scalar_type_numbered(int32_t number)
{
    if (number < 0 || number > static_cast<int32_t>(ScalarType::bfloat16)) return std::nullopt;
    return static_cast<ScalarType>(number);
}

constexpr int64_t scalar_bytes(ScalarType type)
{
    return type == ScalarType::float32 ? 4 : 2;
}

// Rows and columns of zeros around an image, on each side at most most_padding of the kernel.
struct Padding {
    int32_t top = 1, left = 1, bottom = 1, right = 1;

    bool operator==(const Padding&) const = default;
};

// Limits channel counts so that a product of two of them, 49 taps and an element's bytes fits 64 bits.
constexpr int64_t max_channels = int64_t{1} << 20;

// Rows and columns of a stem's or a depthwise convolution's window.
constexpr int32_t kernel_sizes[] = {3, 5, 7};

constexpr int32_t largest_kernel = 7;

constexpr int64_t taps_of(int64_t kernel)
{
    return kernel * kernel;
}

constexpr int32_t most_padding(int32_t kernel)
{
    return kernel / 2;
}

// The window of MobileNetV2, for kernels that are written for no other.
constexpr int64_t kernel_size = 3;
constexpr int64_t kernel_taps = taps_of(kernel_size);

// A convolution's padding by TensorFlow's SAME rule: as many outputs as strides fit, an odd row or column of zeros last.
constexpr Padding same_padding(int64_t height, int64_t width, int32_t stride, int32_t kernel = kernel_size)
{
    const auto total = [&](int64_t size) {
        const int64_t needed = round_up(size, stride) - stride + kernel - size;
        return static_cast<int32_t>(needed > 0 ? needed : 0);
    };
    const int32_t rows = total(height), columns = total(width);
    return {rows / 2, columns / 2, rows - rows / 2, columns - columns / 2};
}

// Outputs of a convolution along one dimension; 0 where the padded input is smaller than the kernel.
constexpr int64_t output_size(int64_t input, int32_t before, int32_t after, int32_t stride, int32_t kernel)
{
    const int64_t span = input + before + after - kernel;
    return span < 0 ? 0 : span / stride + 1;
}

// 1x1 expand (optional), depthwise, gate (optional), 1x1 project, shortcut (optional). Without expand, expanded_channels equals
// in_channels. Not every block can have a residual, see allows_residual.
//
// The gate multiplies each channel of the depthwise result with excite(squeeze(mean of its pixels)), two 1x1 convolutions with
// a bias and an activation each.
struct InvertedResidualParams {
    int64_t batch, height, width;
    int64_t in_channels, expanded_channels, out_channels;
    int32_t stride = 1;
    Padding padding;
    Activation activation = Activation::relu6;
    Activation project_activation = Activation::none;
    bool has_expand = true;
    bool has_residual = false;
    int32_t kernel = kernel_size;
    std::optional<Activation> depthwise_activation;  // none given: `activation`, which the expand has
    int64_t squeezed_channels = 0;                   // between the gate's convolutions; 0 without a gate
    Activation squeeze_activation = Activation::relu;
    GateActivation excite_activation = GateActivation::sigmoid;

    int64_t out_height() const { return output_size(height, padding.top, padding.bottom, stride, kernel); }
    int64_t out_width() const { return output_size(width, padding.left, padding.right, stride, kernel); }
    int64_t taps() const { return taps_of(kernel); }
    bool has_gate() const { return squeezed_channels > 0; }
    Activation activation_behind_depthwise() const { return depthwise_activation.value_or(activation); }
};

// Whether a block's result has its input's shape.
constexpr bool allows_residual(const InvertedResidualParams& params)
{
    const Padding& padding = params.padding;
    const int32_t rim = params.kernel - 1;
    const bool is_same_size = params.stride == 1 && padding.top + padding.bottom == rim && padding.left + padding.right == rim;
    return is_same_size && params.in_channels == params.out_channels;
}

// What a byte may be.
constexpr int64_t byte_values = 256;

// Dense convolution of an image with few channels.
struct StemParams {
    int64_t batch, height, width;
    int64_t in_channels, out_channels;
    int32_t stride = 2;
    Padding padding;
    Activation activation = Activation::relu6;
    int32_t kernel = kernel_size;
    std::optional<ScalarType> bytes_as;  // of an image of bytes: the type of the numbers that they stand for, by a table

    int64_t out_height() const { return output_size(height, padding.top, padding.bottom, stride, kernel); }
    int64_t out_width() const { return output_size(width, padding.left, padding.right, stride, kernel); }
    int64_t taps() const { return taps_of(kernel); }
};

// 1x1 convolution, activation and the mean over all pixels.
struct HeadPoolParams {
    int64_t batch, height, width;
    int64_t in_channels, out_channels;
    Activation activation = Activation::relu6;
};

// A linear layer with a bias and an activation on vectors of features.
struct LinearParams {
    int64_t batch;
    int64_t in_features, out_features;
    Activation activation = Activation::none;
};

// An (N, C, H, W) tensor with any strides, counted in elements. Bytes stand for numbers of dtype.
struct InputView {
    const void* data;
    ScalarType dtype;
    int64_t stride_n, stride_c, stride_h, stride_w;
    bool is_bytes = false;
};

constexpr int64_t element_bytes(ScalarType dtype, bool is_bytes)
{
    return is_bytes ? 1 : scalar_bytes(dtype);
}

}  // namespace mnv2
