// What every device's operators check, and the plain parameters that come of it.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/block.h"
#include "core/layer.h"
#include "core/layer_chain.h"
#include "torch/errors.h"

namespace mnv2::ops {

using torch::stable::Tensor;

using Integers = std::vector<int64_t>;
using Layers = std::vector<NetworkLayer>;

// Small enough that a row of an image times its channels and an element's bytes does not overflow 64 bits.
constexpr int64_t max_size = std::numeric_limits<int32_t>::max();

// The most pixels of an image that a whole network takes, or an int8 layer: times any number of channels, and the images that a
// thousand threads have under way, it does not overflow 64 bits.
constexpr int64_t max_pixels = int64_t{1} << 32;

inline void refuse_if(const char* op, const std::optional<LayerError>& error)
{
    if (error) refuse({op, error->argument}, error->reason);
}

// A chain from its text, without an image's size.
inline Layers read_chain(const char* op, const std::string& text)
{
    std::vector<Layer> described;
    refuse_if(op, read_layers(text, described));
    Layers layers;
    std::transform(described.begin(), described.end(), std::back_inserter(layers), to_network_layer);
    if (const std::optional<ChainMismatch> mismatch = chain_mismatch(layers)) {
        const std::string name = mismatch->layer ? "layers[" + std::to_string(*mismatch->layer) + "]" : "layers";
        refuse({op, name}, mismatch->text);
    }
    return layers;
}

[[noreturn]] inline void refuse_int8(const char* op)
{
    refuse({op, "layers"}, "arithmetic=float (bytes have kernels on CPUs, by pack and run)", arithmetic_name(Arithmetic::int8));
}

inline void refuse_unserved(const char* op, const Layers& layers, const ServedOptions& served)
{
    refuse_if(op, find_unserved(layers, served));
}

// For kernels of floats alone.
inline Layers read_float_chain(const char* op, const std::string& text)
{
    Layers layers = read_chain(op, text);
    if (layers.front().arithmetic == Arithmetic::int8) refuse_int8(op);
    return layers;
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

inline int32_t dtype_of(ScalarType type)
{
    switch (type) {
        case ScalarType::float32: break;
        case ScalarType::float16: return aoti_torch_dtype_float16();
        case ScalarType::bfloat16: return aoti_torch_dtype_bfloat16();
    }
    return aoti_torch_dtype_float32();
}

inline void check_is(const Argument& argument, const Tensor& tensor, int32_t dtype, const char* whose)
{
    check_given(argument, tensor);
    const int32_t found = dtype_of(tensor);
    if (found != dtype) refuse(argument, "dtype " + dtype_text(dtype) + whose, dtype_text(found));
}

inline ScalarType check_scalar_type(const Argument& argument, const Tensor& tensor)
{
    check_given(argument, tensor);
    const int32_t dtype = dtype_of(tensor);
    const std::optional<ScalarType> type = scalar_type(dtype);
    if (!type) refuse(argument, "dtype float32, float16 or bfloat16", dtype_text(dtype));
    return *type;
}

// x as it was checked: (N, C, H, W), or (N, C) as images of one pixel. is_bytes: of numbers of this type.
inline InputView view_of(const Tensor& x, ScalarType type, bool is_bytes = false)
{
    const auto strides = x.strides();
    const bool is_image = strides.size() == 4;
    return {x.const_data_ptr(), type, strides[0], strides[1], is_image ? strides[2] : 0, is_image ? strides[3] : 0, is_bytes};
}

inline void check_image_shape(const Argument& argument, const Tensor& x)
{
    check_dim(argument, x, 4);
    check_channels(argument, x.size(1));
    for (const int64_t size : x.sizes()) {
        if (size > max_size) refuse(argument, "sizes of at most " + std::to_string(max_size), shape_text(x));
    }
}

// x of any operator: (N, C, H, W), strided in any way.
inline InputView check_input(const Argument& argument, const Tensor& x)
{
    const ScalarType type = check_scalar_type(argument, x);
    check_image_shape(argument, x);
    return view_of(x, type);
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

inline void check_vectors_shape(const Argument& argument, const Tensor& x)
{
    check_dim(argument, x, 2);
    check_channels(argument, x.size(1));
    if (x.size(0) > max_size) refuse(argument, "a batch of at most " + std::to_string(max_size), shape_text(x));
}

// x of a linear layer: (N, in_features).
inline InputView check_vectors(const Argument& argument, const Tensor& x)
{
    const ScalarType type = check_scalar_type(argument, x);
    check_vectors_shape(argument, x);
    return view_of(x, type);
}

// Whether x is large enough for one output of a single layer.
template <typename Params>
void check_output(const Argument& argument, const Params& params, const Tensor& x)
{
    if constexpr (requires { params.padding; }) {
        if (params.out_height() > 0 && params.out_width() > 0) return;
        const Padding& padding = params.padding;
        const std::vector<int64_t> sides{padding.top, padding.left, padding.bottom, padding.right};
        refuse(argument,
               "a height and width of at least " + std::to_string(params.kernel) + " with padding " + tuple_text(sides),
               "shape " + shape_text(x));
    } else {
        if (x.size(2) < 1 || x.size(3) < 1) refuse(argument, "at least one pixel", "shape " + shape_text(x));
    }
}

// x of a layer or a chain: vectors for a linear layer, else images.
inline void check_x_shape(const Argument& argument, const Layers& layers, const Tensor& x)
{
    const bool takes_vectors = std::holds_alternative<LinearParams>(layers.front().params);
    takes_vectors ? check_vectors_shape(argument, x) : check_image_shape(argument, x);
}

inline InputView check_x(const Argument& argument, const Layers& layers, const Tensor& x)
{
    const std::optional<ScalarType> numbers = bytes_as(layers);
    if (numbers) check_is(argument, x, aoti_torch_dtype_uint8(), " (of a stem with bytes_as)");
    const ScalarType type = numbers ? *numbers : check_scalar_type(argument, x);
    check_x_shape(argument, layers, x);
    return view_of(x, type, numbers.has_value());
}

// Completes layers by x, which fills the window of each.
inline void complete_by(const Argument& argument, const Tensor& x, Layers& layers)
{
    const int64_t channels = channels_of(layers.front().params).in;
    if (auto* linear = std::get_if<LinearParams>(&layers.front().params)) {
        if (x.size(1) != channels) refuse(argument, "shape (N, " + std::to_string(channels) + ")", shape_text(x));
        linear->batch = x.size(0);
        return;
    }
    check_input_channels(argument, x, channels);
    const int64_t height = x.size(2), width = x.size(3);
    const bool is_held_whole = layers.size() > 1 || layers.front().arithmetic == Arithmetic::int8;
    if (is_held_whole && height * width > max_pixels)
        refuse(argument, "at most " + std::to_string(max_pixels) + " pixels an image", "shape " + shape_text(x));
    const bool fills = mnv2::set_image(layers, x.size(0), height, width) && height > 0 && width > 0;
    if (layers.size() == 1) return std::visit([&](const auto& params) { check_output(argument, params, x); }, layers[0].params);
    if (!fills) refuse(argument, "an image that fills the window of every layer", "shape " + shape_text(x));
}

}  // namespace mnv2::ops
