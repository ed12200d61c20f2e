// What every device's operators check, and the plain parameters that come of it.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/block.h"
#include "core/layer_chain.h"
#include "torch/errors.h"

namespace mnv2::ops {

using torch::stable::Tensor;

// Small enough that a row of an image times its channels and an element's bytes does not overflow 64 bits.
constexpr int64_t max_size = std::numeric_limits<int32_t>::max();

// Of an image that a whole network takes: times any number of channels, and the images that a thousand threads have under way,
// it does not overflow 64 bits.
constexpr int64_t max_pixels = int64_t{1} << 32;

inline Activation check_activation(const Argument& argument, const std::string& name)
{
    if (const std::optional<Activation> activation = activation_named(name)) return *activation;
    refuse(argument, expected_activations, '"' + name + '"');
}

inline Padding check_padding(const Argument& argument, const std::vector<int64_t>& padding)
{
    const bool valid =
        padding.size() == 4 && std::all_of(padding.begin(), padding.end(), [](int64_t side) { return side == 0 || side == 1; });
    if (!valid) refuse(argument, "(top, left, bottom, right), each 0 or 1", tuple_text(padding));
    const auto side = [&](int index) { return static_cast<int32_t>(padding[index]); };
    return {side(0), side(1), side(2), side(3)};
}

inline int32_t check_stride(const Argument& argument, int64_t stride)
{
    if (stride != 1 && stride != 2) refuse(argument, "1 or 2", std::to_string(stride));
    return static_cast<int32_t>(stride);
}

inline int64_t check_channels(const Argument& argument, int64_t channels)
{
    if (channels < 1 || channels > max_channels)
        refuse(argument, "1 to " + std::to_string(max_channels) + " channels", std::to_string(channels));
    return channels;
}

// Python's None comes as a tensor without anything, which has no device, and a dtype and a shape that nobody gave.
inline void check_given(const Argument& argument, const Tensor& tensor)
{
    if (!tensor.defined()) refuse(argument, "a tensor", "None");
}

inline void check_device(const Argument& argument, const Tensor& tensor, const Device& device)
{
    check_given(argument, tensor);
    const Device found = device_of(tensor);
    if (found != device) refuse(argument, "a tensor on " + device_text(device), "one on " + device_text(found));
}

inline void check_dim(const Argument& argument, const Tensor& tensor, int64_t dim)
{
    check_given(argument, tensor);
    if (tensor.dim() == dim) return;
    refuse(argument, std::to_string(dim) + (dim == 1 ? " dimension" : " dimensions"), "shape " + shape_text(tensor));
}

inline void check_shape(const Argument& argument, const Tensor& tensor, const std::vector<int64_t>& shape)
{
    const auto sizes = tensor.sizes();
    if (!std::equal(sizes.begin(), sizes.end(), shape.begin(), shape.end()))
        refuse(argument, "shape " + tuple_text(shape), shape_text(tensor));
}

inline std::optional<ScalarType> scalar_type(int32_t dtype)
{
    if (dtype == aoti_torch_dtype_float32()) return ScalarType::float32;
    if (dtype == aoti_torch_dtype_float16()) return ScalarType::float16;
    if (dtype == aoti_torch_dtype_bfloat16()) return ScalarType::bfloat16;
    return std::nullopt;
}

inline ScalarType check_scalar_type(const Argument& argument, const Tensor& tensor)
{
    check_given(argument, tensor);
    const int32_t dtype = dtype_of(tensor);
    const std::optional<ScalarType> type = scalar_type(dtype);
    if (!type) refuse(argument, "dtype float32, float16 or bfloat16", dtype_text(dtype));
    return *type;
}

// x of any operator: (N, C, H, W), strided in any way.
inline InputView check_input(const Argument& argument, const Tensor& x)
{
    const ScalarType type = check_scalar_type(argument, x);
    check_dim(argument, x, 4);
    check_channels(argument, x.size(1));
    for (const int64_t size : x.sizes()) {
        if (size > max_size) refuse(argument, "sizes of at most " + std::to_string(max_size), shape_text(x));
    }
    return {x.const_data_ptr(), type, x.stride(0), x.stride(1), x.stride(2), x.stride(3)};
}

// A packed buffer of whatever kind.
inline void check_bytes(const Argument& argument, const Tensor& packed, const Device& device)
{
    check_device(argument, packed, device);
    if (dtype_of(packed) != aoti_torch_dtype_uint8()) refuse(argument, "dtype uint8", dtype_text(dtype_of(packed)));
    check_dim(argument, packed, 1);
    if (!packed.is_contiguous()) refuse(argument, "a contiguous tensor", "stride " + std::to_string(packed.stride(0)));
}

// Families that multiply 16-bit numbers take images of that type only; weights of float32 serve all.
inline void check_arithmetic(const Argument& argument, ScalarType x, ScalarType weights)
{
    if (weights != ScalarType::float32 && x != weights)
        refuse(argument, std::string("dtype ") + scalar_type_name(weights) + " (the packed weights')", scalar_type_name(x));
}

// The types of which packed weights may be, in the order of lengths and positions.
constexpr ScalarType packed_types[] = {ScalarType::float32, ScalarType::float16, ScalarType::bfloat16};

// The dtype of the operators' `dtype` arguments.
inline ScalarType check_dtype(const char* op, const std::string& name)
{
    if (const std::optional<ScalarType> type = scalar_type_named(name)) return *type;
    refuse({op, "dtype"}, "float32, float16 or bfloat16", name);
}

// The type that weights without a header are packed for, by the lengths in bytes that they would have; 0 marks a
// type without a packed form.
inline ScalarType check_packed_length(const Argument& argument, const Tensor& x, const Tensor& packed,
                                      std::span<const int64_t> lengths)
{
    check_bytes(argument, packed, device_of(x));
    const int64_t length = packed.numel();
    for (size_t position = 0; position < lengths.size(); ++position) {
        if (lengths[position] == 0 || lengths[position] != length) continue;
        const Argument image{argument.op, "x"};
        check_arithmetic(image, check_scalar_type(image, x), packed_types[position]);
        return packed_types[position];
    }
    std::vector<int64_t> possible(lengths.begin(), lengths.end());
    std::erase(possible, 0);
    refuse(argument, "one of " + tuple_text(possible) + " bytes, as packed for these arguments on this device",
           std::to_string(length));
}

inline void check_input_channels(const Argument& argument, const Tensor& x, int64_t channels)
{
    if (x.size(1) != channels) refuse(argument, "shape (N, " + std::to_string(channels) + ", H, W)", shape_text(x));
}

// The options that fused_block, pack_block and fused_block_packed share.
struct BlockOptions {
    int64_t stride;
    const std::vector<int64_t>& padding;
    bool residual;
    const std::string& activation;
    const std::string& project_activation;
};

struct BlockChannels {
    int64_t in, expanded, out;
    bool expand;
};

// Parameters of a block whose image is not known yet.
inline InvertedResidualParams check_block(const char* op, const BlockChannels& channels, const BlockOptions& options)
{
    InvertedResidualParams params{};
    params.in_channels = check_channels({op, "in_channels"}, channels.in);
    params.expanded_channels = check_channels({op, "expanded_channels"}, channels.expanded);
    params.out_channels = check_channels({op, "out_channels"}, channels.out);
    params.stride = check_stride({op, "stride"}, options.stride);
    params.padding = check_padding({op, "padding"}, options.padding);
    params.activation = check_activation({op, "activation"}, options.activation);
    params.project_activation = check_activation({op, "project_activation"}, options.project_activation);
    params.has_expand = channels.expand;
    params.has_residual = options.residual;
    if (!channels.expand && channels.expanded != channels.in)
        refuse({op, "expanded_channels"}, std::to_string(channels.in) + " (in_channels, without expand)",
               std::to_string(channels.expanded));
    if (!options.residual || allows_residual(params)) return params;

    const Argument residual{op, "residual"};
    if (params.stride != 1) refuse(residual, "stride 1", std::to_string(params.stride));
    if (channels.in != channels.out)
        refuse(residual, "equal input and output channels",
               std::to_string(channels.in) + " and " + std::to_string(channels.out));
    refuse(residual, "padding (1, 1, 1, 1)", tuple_text(options.padding));
}

struct StemOptions {
    int64_t stride;
    const std::vector<int64_t>& padding;
    const std::string& activation;
};

inline StemParams check_stem(const char* op, int64_t in_channels, int64_t out_channels, const StemOptions& options)
{
    StemParams params{};
    params.in_channels = check_channels({op, "in_channels"}, in_channels);
    params.out_channels = check_channels({op, "out_channels"}, out_channels);
    params.stride = check_stride({op, "stride"}, options.stride);
    params.padding = check_padding({op, "padding"}, options.padding);
    params.activation = check_activation({op, "activation"}, options.activation);
    return params;
}

inline HeadPoolParams check_head_pool(const char* op, int64_t in_channels, int64_t out_channels, const std::string& activation)
{
    HeadPoolParams params{};
    params.in_channels = check_channels({op, "in_channels"}, in_channels);
    params.out_channels = check_channels({op, "out_channels"}, out_channels);
    params.activation = check_activation({op, "activation"}, activation);
    return params;
}

inline LinearParams check_linear(const char* op, int64_t in_features, int64_t out_features)
{
    return {0, check_channels({op, "in_features"}, in_features), check_channels({op, "out_features"}, out_features)};
}

// x of a linear layer: (N, in_features), as images of one pixel.
inline InputView check_vectors(const Argument& argument, const Tensor& x)
{
    const ScalarType type = check_scalar_type(argument, x);
    check_dim(argument, x, 2);
    check_channels(argument, x.size(1));
    if (x.size(0) > max_size) refuse(argument, "a batch of at most " + std::to_string(max_size), shape_text(x));
    return {x.const_data_ptr(), type, x.stride(0), x.stride(1), 0, 0};
}

// Completes params by the image's size.
template <typename Params>
void set_image(Params& params, const Argument& argument, const Tensor& x)
{
    check_input_channels(argument, x, params.in_channels);
    params.batch = x.size(0);
    params.height = x.size(2);
    params.width = x.size(3);
}

template <typename Params>
void check_image_fills_a_window(const Argument& argument, const Params& params, const Tensor& x)
{
    if (params.out_height() > 0 && params.out_width() > 0) return;
    const Padding& padding = params.padding;
    const std::vector<int64_t> sides{padding.top, padding.left, padding.bottom, padding.right};
    refuse(argument, "a height and width of at least 3 with padding " + tuple_text(sides), "shape " + shape_text(x));
}

// Completes params by the image, which has an output.
template <typename Params>
void check_image(const Argument& argument, Params& params, const Tensor& x)
{
    set_image(params, argument, x);
    check_image_fills_a_window(argument, params, x);
}

inline void check_image(const Argument& argument, HeadPoolParams& params, const Tensor& x)
{
    set_image(params, argument, x);
    if (params.height < 1 || params.width < 1) refuse(argument, "at least one pixel", "shape " + shape_text(x));
}

// Completes a network's layers by the image, which fills them all.
inline void check_image(const Argument& argument, std::vector<NetworkLayer>& layers, const Tensor& x)
{
    check_input_channels(argument, x, channels_of(layers.front().params).in);
    const int64_t height = x.size(2), width = x.size(3);
    if (height * width > max_pixels)
        refuse(argument, "at most " + std::to_string(max_pixels) + " pixels an image", "shape " + shape_text(x));
    if (height < 1 || width < 1 || !mnv2::set_image(layers, x.size(0), height, width))
        refuse(argument, "an image that fills the window of every layer", "shape " + shape_text(x));
}

inline void check_features(const Argument& argument, const Tensor& x, int64_t features)
{
    if (x.size(1) != features) refuse(argument, "shape (N, " + std::to_string(features) + ")", shape_text(x));
}

}  // namespace mnv2::ops
