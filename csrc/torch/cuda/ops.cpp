// pack and run on NVIDIA's GPUs: allocate, pack and launch on the current stream, nothing that waits for the device.
#include "torch/cuda/ops.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <variant>

#include "cuda/launch.h"
#include "cuda/served.h"
#include "torch/allocate.h"
#include "torch/cuda/launch.h"
#include "torch/cuda/plan.h"
#include "torch/weights.h"

namespace mnv2::ops {
namespace {

// --- linear: torch's own matrix product and activations, on torch's layout ---

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

Tensor activated(const Tensor& x, Activation activation)
{
    if (activation == Activation::none) return x;
    const std::string op = std::string("aten::") + activation_name(activation);  // which torch names as we do
    std::array<StableIValue, 1> stack{torch::stable::detail::from(x)};
    STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher(op.c_str(), "", stack.data(), TORCH_ABI_VERSION));
    return torch::stable::detail::to<Tensor>(stack[0]);
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
        cuda::pack_inverted_residual(params, type_, block_convolutions(params, tensors_), to_, stream_);
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

using Activations = std::vector<Tensor>;

Activations allocate_activations(const char* op, const CudaPlan& plan, const Tensor& x)
{
    Activations activations;
    for (size_t index = 0; index < std::min(plan.launches.size() - 1, plan.activations.size()); ++index)
        activations.push_back(allocate(op, plan.activations[index], aoti_torch_dtype_uint8(), x));
    return activations;
}

// x: strided in any way for a stem, else channels_last.
void launch_layers(const CudaPlan& plan, InputView x, const Tensor& packed, const Activations& activations,
                   const OptionalTensor& scratch, const Tensor& y, cuda::Stream stream)
{
    void* const scratch_data = scratch ? scratch->mutable_data_ptr() : nullptr;
    const auto* const weights = static_cast<const char*>(packed.const_data_ptr());
    for (size_t index = 0; index < plan.launches.size(); ++index) {
        const auto& [launch, packed_at] = plan.launches[index];
        const bool is_last = index + 1 == plan.launches.size();
        void* const to = (is_last ? y : activations[index % 2]).mutable_data_ptr();
        launch(x, weights + packed_at, to, scratch_data, stream);
        x.data = to;
    }
}

Tensor run_linear(const LinearParams& params, const Tensor& x, const Tensor& packed, int64_t offset, ScalarType type)
{
    const LinearTensors parts = linear_tensors(params, packed, offset, type);
    const torch::headeronly::ScalarType x_type = x.scalar_type();
    return activated(apply_linear(x, converted(parts.weight, x_type), converted(parts.bias, x_type)), params.activation);
}

}  // namespace

Tensor CudaBackend::pack(const char* op, const Layers& layers, const std::vector<LayerArguments>& arguments,
                         std::optional<ScalarType> x)
{
    refuse_unserved(op, layers, cuda::served_options);
    const ScalarType type = x.value_or(weights_type(arguments));
    const ChainFormat format = format_of(layers, type);
    Tensor packed = allocate_bytes(op, format.bytes, *arguments[0].convolutions[0].weight);
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
    for (size_t index = 0; index < layers.size(); ++index)
        if (const auto* linear = std::get_if<LinearParams>(&layers[index].params))
            pack_linear(*linear, arguments[index].convolutions[0], packed, format.offsets[index], type);
    return packed;
}

Tensor CudaBackend::run(const char* op, const Prepared<CudaPlan>& call, const Tensor& x, const Tensor& packed)
{
    const CudaPlan& plan = call.plan;
    const auto classify = [&](Tensor features) {
        for (const auto& [params, packed_at] : plan.linears)
            features = run_linear(params, features, packed, packed_at, plan.packed_type);
        return features;
    };
    if (!plan.images_result) return classify(x);
    const Tensor y = allocate(op, *plan.images_result, call.dtype, x);
    if (!plan.launches.empty()) {
        const Activations activations = allocate_activations(op, plan, x);
        OptionalTensor scratch;
        if (plan.scratch_bytes > 0) scratch = allocate_bytes(op, plan.scratch_bytes, x);
        const Tensor image = plan.begins_with_stem ? x : channels_last(x);
        launch(op, x, [&](const cuda::Gpu&, cuda::Stream stream) {
            launch_layers(plan, view_of(image, call.type), packed, activations, scratch, y, stream);
        });
    }
    return classify(y);
}

int64_t cuda_packed_bytes(const std::string& layers, const std::string& dtype)
{
    constexpr const char* op = "cuda_packed_bytes";
    const Layers chain = read_float_chain(op, layers);
    refuse_unserved(op, chain, cuda::served_options);
    return format_of(chain, check_dtype(op, dtype)).bytes;
}

}  // namespace mnv2::ops
