#include "torch/int8/ops.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <variant>
#include <vector>

#include "core/recent.h"
#include "cpu/int8/chain.h"
#include "cpu/int8/isa/dispatch.h"
#include "cpu/int8/packed_chain.h"
#include "cpu/int8/packing.h"
#include "cpu/int8/served.h"
#include "cpu/run/huge_pages.h"
#include "torch/allocate.h"
#include "torch/threads.h"

namespace mnv2::ops {
namespace {

namespace int8 = cpu::int8;

// --- pack ---

Tensor check_tensor(const Argument& argument, const OptionalTensor& tensor, int32_t dtype, const Integers& shape)
{
    if (!tensor) refuse(argument, "a tensor", "None");
    check_device(argument, *tensor, cpu_device());
    if (dtype_of(*tensor) != dtype) refuse(argument, "dtype " + dtype_text(dtype), dtype_text(dtype_of(*tensor)));
    check_shape(argument, *tensor, shape);
    return torch::stable::contiguous(*tensor);
}

template <class Value>
const Value* data_of(const Tensor& tensor)
{
    return static_cast<const Value*>(tensor.const_data_ptr());
}

// A convolution's checked tensors.
struct Int8Tensors {
    Tensor weight, multiplier, bias;
    std::optional<Tensor> shortcut;

    int8::ConvolutionWeights view() const
    {
        return {data_of<int8_t>(weight), data_of<float>(multiplier), data_of<float>(bias),
                shortcut ? data_of<float>(*shortcut) : nullptr};
    }
};

// Checks and packs one layer's tensors, from the first on.
class LayerPacker {
public:
    LayerPacker(const char* op, std::string prefix, const OptionalTensor* tensors, const int8::Format& format, void* to)
        : op_(op), prefix_(std::move(prefix)), tensors_(tensors), format_(format), to_(to)
    {
    }

    void operator()(const StemParams& params) const
    {
        const Int8Tensors weights = convolution("", 0, {params.out_channels, params.in_channels, kernel_size, kernel_size});
        const Tensor pad = check_tensor(argument("pad"), tensors_[3], aoti_torch_dtype_uint8(), {params.in_channels});
        const Tensor scale = image_numbers("image_scale", 4, params), zero_point = image_numbers("image_zero_point", 5, params);
        if (!are_all(scale, [](float each) { return each > 0 && std::isfinite(1 / each); }))
            refuse(argument("image_scale"), "finite numbers above 0", "others");
        if (!are_all(zero_point, [](float each) { return std::isfinite(each); }))
            refuse(argument("image_zero_point"), "finite numbers", "others");
        const int8::ImageGrid image{data_of<uint8_t>(pad), data_of<float>(scale), data_of<float>(zero_point)};
        int8::pack_stem(params, weights.view(), image, format_, to_);
    }

    void operator()(const InvertedResidualParams& params) const
    {
        std::optional<Int8Tensors> expand;
        if (params.has_expand)
            expand = convolution("expand_", 0, {params.expanded_channels, params.in_channels, 1, 1});
        else
            check_none({"expand_weight", "expand_multiplier", "expand_bias"}, 0, "an expand");
        const Int8Tensors depthwise = convolution("depthwise_", 3, {params.expanded_channels, 1, kernel_size, kernel_size});
        constexpr int shortcut = 9;
        if (!params.has_residual) check_none({"shortcut"}, shortcut, "residual=1");
        const Int8Tensors project = convolution("project_", 6, {params.out_channels, params.expanded_channels, 1, 1},
                                                params.has_residual ? shortcut : no_shortcut);
        int8::pack_block(params, expand ? expand->view() : int8::ConvolutionWeights{}, depthwise.view(), project.view(),
                         format_, to_);
    }

    void operator()(const HeadPoolParams& params) const
    {
        const Int8Tensors weights = convolution("", 0, {params.out_channels, params.in_channels, 1, 1});
        const Tensor pool = check_tensor(argument("pool"), tensors_[3], aoti_torch_dtype_float32(), {1});
        const float factor = *data_of<float>(pool);
        if (!std::isfinite(factor)) refuse(argument("pool"), "a finite number", std::to_string(factor));
        int8::pack_head_pool(params, weights.view(), factor, format_, to_);
    }

    void operator()(const LinearParams& params) const
    {
        const Int8Tensors weights = convolution("", 0, {params.out_features, params.in_features});
        int8::pack_linear(params, weights.view(), format_, to_);
    }

private:
    static constexpr int no_shortcut = -1;

    Argument argument(const std::string& name) const { return {op_, prefix_ + name}; }

    Tensor image_numbers(const char* name, int at, const StemParams& params) const
    {
        return check_tensor(argument(name), tensors_[at], aoti_torch_dtype_float32(), {params.in_channels});
    }

    template <class Predicate>
    static bool are_all(const Tensor& tensor, const Predicate& holds)
    {
        const auto* const values = data_of<float>(tensor);
        return std::all_of(values, values + tensor.numel(), holds);
    }

    Int8Tensors convolution(const std::string& name, int first, const Integers& shape, int shortcut = no_shortcut) const
    {
        const auto floats = [&](const std::string& of, int at) {
            return check_tensor(argument(of), tensors_[at], aoti_torch_dtype_float32(), {shape[0]});
        };
        Int8Tensors tensors{check_tensor(argument(name + "weight"), tensors_[first], aoti_torch_dtype_int8(), shape),
                            floats(name + "multiplier", first + 1), floats(name + "bias", first + 2), std::nullopt};
        if (shortcut != no_shortcut) tensors.shortcut = floats("shortcut", shortcut);
        if (!int8::stays_in_int32(tensors.view(), tensors.weight.numel() / shape[0], shape[0]))
            refuse(argument(name + "multiplier"), "sums and results below 2^31", "larger ones");
        return tensors;
    }

    void check_none(std::initializer_list<const char*> names, int first, const char* without) const
    {
        for (const char* name : names)
            if (tensors_[first++]) refuse(argument(name), std::string("None without ") + without, "a tensor");
    }

    const char* op_;
    std::string prefix_;
    const OptionalTensor* tensors_;
    const int8::Format& format_;
    void* to_;
};

size_t tensors_of(const NetworkLayer& layer)
{
    constexpr std::array<size_t, std::variant_size_v<LayerParams>> counts = {6, 10, 4, 3};  // in LayerParams' order
    return counts[layer.params.index()];
}

// --- run ---

bool takes_floats(const Layers& layers)
{
    return std::holds_alternative<StemParams>(layers.front().params);
}

void check_int8_x(const Argument& argument, const Layers& layers, const Tensor& x)
{
    check_given(argument, x);
    const int32_t dtype = dtype_of(x);
    if (dtype != aoti_torch_dtype_uint8() && !(takes_floats(layers) && dtype == aoti_torch_dtype_float32()))
        refuse(
            argument,
            std::string(takes_floats(layers) ? "dtype uint8 or float32" : "dtype uint8") + " (of layers with arithmetic=int8)",
            dtype_text(dtype));
    check_x_shape(argument, layers, x);
}

// A pool's sums are of 32 bits.
void check_pooled_pixels(const Argument& argument, const Layers& layers)
{
    constexpr int64_t most = std::numeric_limits<int32_t>::max() / 255;
    for (const NetworkLayer& layer : layers)
        if (const auto* head = std::get_if<HeadPoolParams>(&layer.params); head && head->height * head->width > most)
            refuse(argument, "at most " + std::to_string(most) + " pixels to pool", std::to_string(head->height * head->width));
}

const void* packed_data(const char* op, const Tensor& packed)
{
    const Argument argument{op, "packed"};
    check_bytes(argument, packed, cpu_device());
    const void* const data = packed.const_data_ptr();
    if (reinterpret_cast<uintptr_t>(data) % alignof(float) != 0)
        refuse(argument, "data aligned to " + std::to_string(alignof(float)) + " bytes", "a view at an odd offset");
    return data;
}

// What a call needs beside its pointers, made once for all calls that bring the same.
struct Int8Call {
    std::string text;
    int32_t dtype;  // x's
    Integers sizes;
    Layers layers;  // completed by x, placed for the kernels
    const int8::Kernels* kernels;
    std::vector<char> header;  // of the packed weights, in front of the first layer's
    int64_t packed_bytes;

    Int8Call(const char* op, std::string of, const Tensor& x, const Tensor& packed)
        : text(std::move(of)), layers(read_chain(op, text)), packed_bytes(packed.numel())
    {
        refuse_unserved(op, layers, int8::served_options);
        const Argument argument{op, "x"};
        check_int8_x(argument, layers, x);
        dtype = dtype_of(x);
        complete_by(argument, x, layers);
        check_pooled_pixels(argument, layers);
        const auto all = x.sizes();
        sizes.assign(all.begin(), all.end());
        const auto* const data = static_cast<const char*>(packed_data(op, packed));
        int8::Isa isa{};
        const std::string mismatch = int8::chain_mismatch(layers, data, packed_bytes, isa);
        if (!mismatch.empty()) refuse({op, "packed"}, mismatch);
        kernels = &int8::kernels_for(isa);
        int8::place_layers(layers, kernels->format);
        header.assign(data, data + layers.front().packed_at);
    }

    bool serves(const char* op, const std::string& of, const Tensor& x, const Tensor& packed) const
    {
        const auto all = x.sizes();
        if (dtype_of(x) != dtype || !std::equal(all.begin(), all.end(), sizes.begin(), sizes.end()) || of != text) return false;
        const void* const data = packed_data(op, packed);
        return packed.numel() == packed_bytes && std::memcmp(data, header.data(), header.size()) == 0;
    }

    bool gives_floats() const { return std::holds_alternative<LinearParams>(layers.back().params); }
};

int8::ImageView image_view_of(const Tensor& x)
{
    const bool is_float = dtype_of(x) == aoti_torch_dtype_float32();
    const auto strides = x.strides();
    const auto bytes = [&](size_t dim) { return dim < strides.size() ? strides[dim] * (is_float ? int8::float_bytes : 1) : 0; };
    return {data_of<uint8_t>(x), bytes(0), bytes(1), bytes(2), bytes(3), is_float};
}

// layer_seconds: null, or a number for each layer, to which its time is added.
Tensor run_call(const char* op, const Int8Call& call, const Tensor& x, const Tensor& packed, double* layer_seconds)
{
    const int32_t dtype = call.gives_floats() ? aoti_torch_dtype_float32() : aoti_torch_dtype_uint8();
    Tensor y = allocate(op, result_shape(call.layers), dtype, x);
    if (x.size(0) == 0) return y;
    try {
        int8::run_chain(*call.kernels, call.layers, image_view_of(x), packed.const_data_ptr(), y.mutable_data_ptr(),
                        torch_threads(), layer_seconds);
    } catch (const std::bad_alloc&) {
        throw std::runtime_error(std::string("mnv2::") + op + ": cannot allocate scratch memory for x of shape " +
                                 shape_text(x));
    }
    return y;
}

}  // namespace

Tensor pack_int8(const char* op, Layers layers, const OptionalTensors& weights)
{
    refuse_unserved(op, layers, int8::served_options);
    size_t wanted = 0;
    for (const NetworkLayer& layer : layers) wanted += tensors_of(layer);
    if (weights.size() != wanted)
        refuse({op, "weights"},
               std::to_string(wanted) +
                   " tensors or None, six of an int8 stem, ten of a block, four of a head, three of a linear layer",
               std::to_string(weights.size()));
    const int8::Format& format = int8::select_kernels().format;
    Tensor packed = allocate_bytes(op, int8::place_layers(layers, format), first_weight(op, weights));
    auto* const to = static_cast<char*>(packed.mutable_data_ptr());
    prefer_huge_pages(to, packed.numel());
    int8::write_chain_header(layers, format, to);
    const OptionalTensor* next = weights.data();
    for (size_t index = 0; index < layers.size(); next += tensors_of(layers[index++])) {
        const std::string prefix = layers.size() > 1 ? "layers[" + std::to_string(index) + "]: " : "";
        std::visit(LayerPacker(op, prefix, next, format, to + layers[index].packed_at), layers[index].params);
    }
    return packed;
}

Tensor run_int8(const char* op, const std::string& text, const Tensor& x, const Tensor& packed)
{
    constexpr size_t most_kept = 64;
    static Recent<Int8Call> recent(most_kept);
    const auto serves = [&](const Int8Call& kept) { return kept.serves(op, text, x, packed); };
    const auto call = recent.find(serves, [&] { return Int8Call(op, text, x, packed); });
    return run_call(op, *call, x, packed, nullptr);
}

Tensor run_int8_seconds(const char* op, const std::string& text, const Tensor& x, const Tensor& packed)
{
    const Int8Call call(op, text, x, packed);
    const auto layers = static_cast<int64_t>(call.layers.size());
    Tensor seconds = allocate(op, {{layers}, {1}}, aoti_torch_dtype_float64(), x);
    auto* const to = static_cast<double*>(seconds.mutable_data_ptr());
    std::fill_n(to, layers, 0.0);
    run_call(op, call, x, packed, to);
    return seconds;
}

}  // namespace mnv2::ops
