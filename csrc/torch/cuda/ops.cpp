// pack and run on NVIDIA's GPUs: allocate, pack and launch on the current stream, nothing that waits for the device.
#include "torch/cuda/ops.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <variant>

#include "cuda/launch.h"
#include "torch/allocate.h"
#include "torch/cuda/launch.h"
#include "torch/cuda/weights.h"
#include "torch/weights.h"

namespace mnv2::ops {
namespace {

// --- linear: torch's own matrix product, on its own layout ---

torch::headeronly::ScalarType torch_type(ScalarType type)
{
    switch (type) {
        case ScalarType::float16: return torch::headeronly::ScalarType::Half;
        case ScalarType::bfloat16: return torch::headeronly::ScalarType::BFloat16;
        case ScalarType::float32: break;
    }
    return torch::headeronly::ScalarType::Float;
}

// Views of packed weights, which do not keep them: views by torch's operators take the host longer than the rest of a call.
struct LinearTensors {
    Tensor weight, bias;
};

LinearTensors linear_tensors(const LinearParams& params, const Tensor& packed, int64_t offset, ScalarType type)
{
    auto* const bytes = static_cast<uint8_t*>(const_cast<void*>(packed.const_data_ptr())) + offset;
    const auto view = [&](int64_t first, const Integers& sizes, const Integers& strides) {
        return torch::stable::from_blob(bytes + first * scalar_bytes(type), sizes, strides, packed.device(), torch_type(type));
    };
    const int64_t in = params.in_features, out = params.out_features;
    return {view(0, {out, in}, {in, 1}), view(in * out, {out}, {1})};
}

// Weights of x's type as they are.
Tensor converted(const Tensor& weight, torch::headeronly::ScalarType type)
{
    return weight.scalar_type() == type ? weight : torch::stable::to(weight, type);
}

Tensor apply_linear(const Tensor& x, const Tensor& weight, const Tensor& bias)
{
    std::array<StableIValue, 3> stack{torch::stable::detail::from(x), torch::stable::detail::from(weight),
                                      torch::stable::detail::from(OptionalTensor(bias))};
    STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::linear", "", stack.data(), TORCH_ABI_VERSION));
    return torch::stable::detail::to<Tensor>(stack[0]);
}

// --- pack ---

// Packs one layer at its place in a buffer.
class LayerPacker {
public:
    LayerPacker(const LayerArguments& arguments, ScalarType type, void* to, cuda::Stream stream)
        : type_(type), to_(to), stream_(stream)
    {
        for (const ConvolutionArguments& convolution : arguments.convolutions) tensors_.emplace_back(convolution);
    }

    void operator()(const InvertedResidualParams& params) const
    {
        const size_t last = tensors_.size() - 1;
        const ConvolutionWeights expand = params.has_expand ? tensors_[0].view() : ConvolutionWeights{};
        cuda::pack_inverted_residual(params, type_, expand, tensors_[last - 1].view(), tensors_[last].view(), to_, stream_);
    }
    void operator()(const StemParams& params) const { cuda::pack_stem(params, type_, tensors_[0].view(), to_, stream_); }
    void operator()(const HeadPoolParams& params) const
    {
        cuda::pack_head_pool(params, type_, tensors_[0].view(), to_, stream_);
    }
    void operator()(const LinearParams&) const {}  // copied by torch

    // With the block behind it, of which these are the arguments.
    void pack_joined(const StemParams& stem, const InvertedResidualParams& block, const LayerArguments& of_block) const
    {
        const ConvolutionTensors depthwise(of_block.convolutions[0]), project(of_block.convolutions[1]);
        cuda::pack_stem_block(stem, block, type_, tensors_[0].view(), depthwise.view(), project.view(), to_, stream_);
    }

private:
    ScalarType type_;
    void* to_;
    cuda::Stream stream_;
    std::vector<ConvolutionTensors> tensors_;
};

void pack_linear(const LinearParams& params, const ConvolutionArguments& from, const Tensor& packed, int64_t offset,
                 ScalarType type)
{
    LinearTensors parts = linear_tensors(params, packed, offset, type);
    torch::stable::copy_(parts.weight, *from.weight);
    if (from.bias)
        torch::stable::copy_(parts.bias, *from.bias);
    else
        torch::stable::zero_(parts.bias);
}

// --- run ---

// Where layers leave their images: two buffers in turn, as a layer needs but those of the one before. The last layer has a
// result of its own.
class Activations {
public:
    Activations(const char* op, const Tensor& x, const Layers& layers, size_t body, ScalarType type)
        : buffers_{allocate_buffer(op, x, layers, body, type, 0), allocate_buffer(op, x, layers, body, type, 1)}
    {
    }

    void* of(size_t layer) { return buffers_[layer % buffers_.size()].mutable_data_ptr(); }

private:
    static Tensor allocate_buffer(const char* op, const Tensor& x, const Layers& layers, size_t body, ScalarType type,
                                  size_t first)
    {
        int64_t bytes = 0;
        for (size_t index = first; index + 1 < body; index += 2) {
            const ImageSize size = result_size(layers[index]);
            const int64_t channels = channels_of(layers[index].params).out;
            bytes = std::max(bytes, size.height * size.width * channels * scalar_bytes(type));
        }
        return allocate(op, {x.size(0), bytes}, torch::headeronly::ScalarType::Byte, x);
    }

    std::array<Tensor, 2> buffers_;
};

// What one call has in common for all its layers.
struct Call {
    const Layers& layers;
    const ChainFormat& format;
    ScalarType packed_type, x_type;
    const char* packed;
    const cuda::Gpu& gpu;
    cuda::Stream stream;

    const void* packed_of(size_t layer) const { return packed + format.offsets[layer]; }
};

// Launches the kernel of one layer: images to y.
class LayerLaunch {
public:
    LayerLaunch(const Call& call, size_t layer, const InputView& x, void* y) : call_(call), layer_(layer), x_(x), y_(y) {}

    void operator()(const StemParams& params) const
    {
        cuda::stem(params, call_.packed_type, x_, call_.packed_of(layer_), y_, call_.gpu, call_.stream);
    }
    void operator()(const InvertedResidualParams& params) const
    {
        cuda::inverted_residual(params, call_.x_type, call_.packed_type, x_.data, call_.packed_of(layer_), y_, call_.gpu,
                                call_.stream);
    }
    void operator()(const HeadPoolParams& params) const
    {
        cuda::head_pool(params, call_.x_type, call_.packed_type, x_.data, call_.packed_of(layer_), y_, call_.gpu, call_.stream);
    }
    void operator()(const LinearParams&) const {}  // torch's

private:
    const Call& call_;
    size_t layer_;
    const InputView& x_;
    void* y_;
};

// The first `body` layers. x: strided in any way for a stem, else channels_last.
void launch_layers(const Call& call, size_t body, InputView x, Activations& activations, void* result)
{
    size_t index = 0;
    const auto result_of = [&](size_t layer) { return layer + 1 == body ? result : activations.of(layer); };
    if (call.format.joined) {
        void* const y = result_of(1);
        cuda::stem_block(std::get<StemParams>(call.layers[0].params), std::get<InvertedResidualParams>(call.layers[1].params),
                         x, call.packed_of(0), y, call.gpu, call.stream);
        x.data = y;
        index = 2;
    }
    for (; index < body; ++index) {
        void* const y = result_of(index);
        std::visit(LayerLaunch(call, index, x, y), call.layers[index].params);
        x.data = y;
    }
}

Tensor allocate_result(const char* op, const NetworkLayer& last, const Tensor& x)
{
    const int64_t channels = channels_of(last.params).out;
    const bool is_image =
        std::holds_alternative<StemParams>(last.params) || std::holds_alternative<InvertedResidualParams>(last.params);
    if (!is_image) return allocate(op, {x.size(0), channels}, x.scalar_type(), x);
    const ImageSize size = result_size(last);
    return allocate_image(op, x, channels, size.height, size.width);
}

Tensor run_linear(const LinearParams& params, const Tensor& x, const Tensor& packed, int64_t offset, ScalarType type)
{
    const LinearTensors parts = linear_tensors(params, packed, offset, type);
    const torch::headeronly::ScalarType x_type = x.scalar_type();
    return apply_linear(x, converted(parts.weight, x_type), converted(parts.bias, x_type));
}

}  // namespace

Tensor CudaBackend::pack(const char* op, const Layers& layers, const std::vector<LayerArguments>& arguments,
                         std::optional<ScalarType> x)
{
    const ScalarType type = x.value_or(weights_type(arguments));
    const ChainFormat format = chain_of(layers).format(type);
    Tensor packed = allocate_packed(op, format.bytes, *arguments[0].convolutions[0].weight);
    torch::stable::zero_(packed);  // what lies between layers' weights
    auto* const bytes = static_cast<char*>(packed.mutable_data_ptr());
    launch(op, packed, [&](const cuda::Gpu&, cuda::Stream stream) {
        const auto packer = [&](size_t index) {
            return LayerPacker(arguments[index], type, bytes + format.offsets[index], stream);
        };
        if (format.joined)
            packer(0).pack_joined(std::get<StemParams>(layers[0].params), std::get<InvertedResidualParams>(layers[1].params),
                                  arguments[1]);
        for (size_t index = format.joined ? 2 : 0; index < layers.size(); ++index)
            std::visit(packer(index), layers[index].params);
    });
    if (const auto* linear = std::get_if<LinearParams>(&layers.back().params))
        pack_linear(*linear, arguments.back().convolutions[0], packed, format.offsets.back(), type);
    return packed;
}

Tensor CudaBackend::run(const char* op, const std::string& text, const Layers& layers, const Tensor& x, const InputView& view,
                        const Tensor& packed)
{
    const std::shared_ptr<const CudaChain> chain = known_chain(op, text);
    const ScalarType type = check_packed({op, "packed"}, x, packed, *chain);
    const ChainFormat& format = chain->format(type);
    const auto* const linear = std::get_if<LinearParams>(&layers.back().params);
    const size_t body = layers.size() - (linear ? 1 : 0);  // layers of images
    if (body == 0) return run_linear(*linear, x, packed, format.offsets[0], type);

    Tensor y = allocate_result(op, layers[body - 1], x);
    if (x.size(0) > 0) {
        Activations activations(op, x, layers, body, view.dtype);
        const Tensor image = std::holds_alternative<StemParams>(layers.front().params) ? x : channels_last(x);
        InputView input = view;
        input.data = image.const_data_ptr();
        launch(op, x, [&](const cuda::Gpu& gpu, cuda::Stream stream) {
            const Call call{layers, format, type, view.dtype, static_cast<const char*>(packed.const_data_ptr()), gpu, stream};
            launch_layers(call, body, input, activations, y.mutable_data_ptr());
        });
    }
    return linear ? run_linear(*linear, y, packed, format.offsets.back(), type) : y;
}

int64_t cuda_packed_bytes(const std::string& layers, const std::string& dtype)
{
    constexpr const char* op = "cuda_packed_bytes";
    return known_chain(op, layers)->format(check_dtype(op, dtype)).bytes;
}

}  // namespace mnv2::ops
