// The operators on NVIDIA's GPUs: allocate, pack and launch on the current stream, nothing that waits for the device.
#include "torch/cuda_ops.h"

#include <torch/csrc/stable/ops.h>

#include <array>
#include <cstdint>
#include <string>

#include "cuda/launch.h"
#include "torch/allocate.h"
#include "torch/cuda_launch.h"
#include "torch/cuda_weights.h"
#include "torch/weights.h"

namespace mnv2::ops {
namespace {

// A layer's weights, by pack(params, type, weights, packed, stream).
template <typename Params, typename Pack>
Tensor pack_layer(const ConvolutionArguments& from, const Params& params, const Integers& weight_shape,
                  std::optional<ScalarType> x, const Pack& pack)
{
    const ConvolutionTensors weights(from, weight_shape, x, device_of(from.weight));
    const ScalarType type = x.value_or(weights.type());
    Tensor packed = allocate_packed(from.op, length_of(params, type), from.weight);
    launch(from.op, packed, [&](const cuda::Gpu&, cuda::Stream stream) {
        pack(params, type, weights.view(), packed.mutable_data_ptr(), stream);
    });
    return packed;
}

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

LinearTensors linear_tensors(const LinearParams& params, const Tensor& packed, ScalarType type)
{
    auto* const bytes = static_cast<uint8_t*>(const_cast<void*>(packed.const_data_ptr()));
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

}  // namespace

// --- inverted residual ---

Tensor CudaBackend::pack(const BlockArguments& from, const InvertedResidualParams& params, std::optional<ScalarType> x)
{
    const Device device = device_of(from.project_weight);
    std::optional<ConvolutionTensors> expand;
    if (params.has_expand) expand.emplace(from.expand(), expand_shape(params), x, device);
    const ConvolutionTensors depthwise(from.depthwise(), depthwise_shape(params), x, device);
    const ConvolutionTensors project(from.project(), project_shape(params), x, device);

    const ScalarType type = x.value_or(weights_type(from));
    Tensor packed = allocate_packed(from.op, length_of(params, type), from.project_weight);
    launch(from.op, packed, [&](const cuda::Gpu&, cuda::Stream stream) {
        cuda::pack_inverted_residual(params, type, expand ? expand->view() : ConvolutionWeights{}, depthwise.view(),
                                     project.view(), packed.mutable_data_ptr(), stream);
    });
    return packed;
}

Tensor CudaBackend::run(const char* op, InvertedResidualParams params, const Tensor& x, const InputView& view,
                        const Tensor& packed)
{
    check_image({op, "x"}, params, x);
    const ScalarType type = check_packed({op, "packed"}, x, packed, lengths_of(params));
    Tensor y = allocate_image(op, x, params.out_channels, params.out_height(), params.out_width());
    if (params.batch == 0) return y;
    const Tensor image = channels_last(x);
    launch(op, x, [&](const cuda::Gpu& gpu, cuda::Stream stream) {
        cuda::inverted_residual(params, view.dtype, type, image.const_data_ptr(), packed.const_data_ptr(), y.mutable_data_ptr(),
                                gpu, stream);
    });
    return y;
}

// --- stem ---

Tensor CudaBackend::pack(const char* op, const StemParams& params, const Tensor& weight, const OptionalTensor& scale,
                         const OptionalTensor& bias, std::optional<ScalarType> x)
{
    return pack_layer({op, "", weight, scale, bias}, params,
                      {params.out_channels, params.in_channels, kernel_size, kernel_size}, x, cuda::pack_stem);
}

Tensor CudaBackend::run(const char* op, StemParams params, const Tensor& x, const InputView& view, const Tensor& packed)
{
    check_image({op, "x"}, params, x);
    const ScalarType type = check_packed({op, "packed"}, x, packed, lengths_of(params));
    Tensor y = allocate_image(op, x, params.out_channels, params.out_height(), params.out_width());
    if (params.batch == 0) return y;
    launch(op, x, [&](const cuda::Gpu& gpu, cuda::Stream stream) {
        cuda::stem(params, type, view, packed.const_data_ptr(), y.mutable_data_ptr(), gpu, stream);
    });
    return y;
}

// --- head and pool ---

Tensor CudaBackend::pack(const char* op, const HeadPoolParams& params, const Tensor& weight, const OptionalTensor& scale,
                         const OptionalTensor& bias, std::optional<ScalarType> x)
{
    return pack_layer({op, "", weight, scale, bias}, params, {params.out_channels, params.in_channels, 1, 1}, x,
                      cuda::pack_head_pool);
}

Tensor CudaBackend::run(const char* op, HeadPoolParams params, const Tensor& x, const InputView& view, const Tensor& packed)
{
    check_image({op, "x"}, params, x);
    const ScalarType type = check_packed({op, "packed"}, x, packed, lengths_of(params));
    Tensor y = allocate(op, {params.batch, params.out_channels}, x.scalar_type(), x);
    if (params.batch == 0) return y;
    const Tensor image = channels_last(x);
    launch(op, x, [&](const cuda::Gpu& gpu, cuda::Stream stream) {
        cuda::head_pool(params, view.dtype, type, image.const_data_ptr(), packed.const_data_ptr(), y.mutable_data_ptr(), gpu,
                        stream);
    });
    return y;
}

// --- linear ---

Tensor CudaBackend::pack(const char* op, const LinearParams& params, const Tensor& weight, const OptionalTensor& bias,
                         std::optional<ScalarType> x)
{
    check_convolution({op, "", weight, std::nullopt, bias}, {params.out_features, params.in_features}, x, device_of(weight));
    const ScalarType type = x.value_or(check_scalar_type({op, "weight"}, weight));
    Tensor packed = allocate_packed(op, length_of(params, type), weight);
    LinearTensors parts = linear_tensors(params, packed, type);
    torch::stable::copy_(parts.weight, weight);
    if (bias)
        torch::stable::copy_(parts.bias, *bias);
    else
        torch::stable::zero_(parts.bias);
    return packed;
}

Tensor CudaBackend::run(const char* op, LinearParams params, const Tensor& x, const InputView&, const Tensor& packed)
{
    check_features({op, "x"}, x, params.in_features);
    const ScalarType type = check_packed({op, "packed"}, x, packed, lengths_of(params));
    const LinearTensors parts = linear_tensors(params, packed, type);
    const torch::headeronly::ScalarType x_type = x.scalar_type();
    return apply_linear(x, converted(parts.weight, x_type), converted(parts.bias, x_type));
}

// --- lengths for the fakes ---

int64_t cuda_block_bytes(int64_t in_channels, int64_t expanded_channels, int64_t out_channels, bool expand, int64_t stride,
                         const Integers& padding, bool residual, const std::string& activation,
                         const std::string& project_activation, const std::string& dtype)
{
    constexpr const char* op = "cuda_block_bytes";
    const BlockOptions options{stride, padding, residual, activation, project_activation};
    return length_of(check_block(op, {in_channels, expanded_channels, out_channels, expand}, options), check_dtype(op, dtype));
}

int64_t cuda_stem_bytes(int64_t in_channels, int64_t out_channels, int64_t stride, const Integers& padding,
                        const std::string& activation, const std::string& dtype)
{
    constexpr const char* op = "cuda_stem_bytes";
    return length_of(check_stem(op, in_channels, out_channels, {stride, padding, activation}), check_dtype(op, dtype));
}

int64_t cuda_head_pool_bytes(int64_t in_channels, int64_t out_channels, const std::string& activation, const std::string& dtype)
{
    constexpr const char* op = "cuda_head_pool_bytes";
    return length_of(check_head_pool(op, in_channels, out_channels, activation), check_dtype(op, dtype));
}

int64_t cuda_linear_bytes(int64_t in_features, int64_t out_features, const std::string& dtype)
{
    constexpr const char* op = "cuda_linear_bytes";
    return length_of(check_linear(op, in_features, out_features), check_dtype(op, dtype));
}

}  // namespace mnv2::ops
