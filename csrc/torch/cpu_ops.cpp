// The operators on the CPU: check, widen the weights, allocate, launch.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdint>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/huge_pages.h"
#include "core/network.h"
#include "core/packing.h"
#include "core/parallel.h"
#include "cpu/isa/dispatch.h"
#include "cpu/run/launch.h"
#include "torch/allocate.h"
#include "torch/arguments.h"
#include "torch/checks.h"
#include "torch/operators.h"
#include "torch/weights.h"

namespace mnv2::ops {
namespace {

// Torch's own threads. Inside a parallel region of torch, parallel_for runs the body at once on the calling thread.
Parallel torch_threads()
{
    return {torch::stable::get_num_threads(), [](int64_t tasks, ParallelBody body, void* context) {
                torch::stable::parallel_for(0, tasks, 1, [&](int64_t begin, int64_t end) { body(context, begin, end); });
            }};
}

// The kernels allocate scratch memory, which grows with an image's width.
template <typename Launch>
void launch(const char* op, const Tensor& x, const Launch& kernel)
{
    if (x.size(0) == 0) return;
    try {
        kernel();
    } catch (const std::bad_alloc&) {
        throw std::runtime_error(std::string("mnv2::") + op + ": cannot allocate scratch memory for x of shape " +
                                 shape_text(x));
    }
}

// The bytes of a packed buffer of whatever kind.
const void* packed_data(const Argument& argument, const Tensor& packed)
{
    check_bytes(argument, packed, cpu_device());
    const void* data = packed.const_data_ptr();
    if (reinterpret_cast<uintptr_t>(data) % alignof(float) != 0)
        refuse(argument, "data aligned to " + std::to_string(alignof(float)) + " bytes", "a view at an odd offset");
    return data;
}

// The bytes of a packed buffer that was made for params and serves x.
template <typename Params>
const void* check_packed(const char* op, const Tensor& packed, const Params& params, const InputView& x)
{
    const Argument argument{op, "packed"};
    const void* data = packed_data(argument, packed);
    const std::string mismatch = packed_mismatch(data, packed.numel(), params);
    if (!mismatch.empty()) refuse(argument, mismatch);
    check_arithmetic({op, "x"}, x.dtype, stored_type(packed_isa(data)));
    return data;
}

struct CpuBackend {
    // --- inverted residual ---

    static Tensor pack(const BlockArguments& from, const InvertedResidualParams& params, std::optional<ScalarType> x)
    {
        std::optional<ConvolutionTensors> expand;
        if (params.has_expand) expand.emplace(from.expand(), expand_shape(params), x, cpu_device());
        const ConvolutionTensors depthwise(from.depthwise(), depthwise_shape(params), x, cpu_device());
        const ConvolutionTensors project(from.project(), project_shape(params), x, cpu_device());

        const PackLayout& layout = cpu::select_kernels(weights_type(from)).layout;
        Tensor packed = allocate_packed(from.op, packed_bytes(params, layout), from.project_weight);
        mnv2::pack_block(params, expand ? expand->view() : ConvolutionWeights{}, depthwise.view(), project.view(), layout,
                         packed.mutable_data_ptr());
        return packed;
    }

    static Tensor run(const char* op, InvertedResidualParams params, const Tensor& x, const InputView& view,
                      const Tensor& packed)
    {
        check_image({op, "x"}, params, x);
        const void* weights = check_packed(op, packed, params, view);
        Tensor y = allocate_image(op, x, params.out_channels, params.out_height(), params.out_width());
        launch(op, x, [&] { cpu::inverted_residual(params, view, weights, y.mutable_data_ptr(), torch_threads()); });
        return y;
    }

    // --- stem ---

    static Tensor pack(const char* op, const StemParams& params, const Tensor& weight, const OptionalTensor& scale,
                       const OptionalTensor& bias, std::optional<ScalarType> x)
    {
        const ConvolutionTensors weights({op, "", weight, scale, bias},
                                         {params.out_channels, params.in_channels, kernel_size, kernel_size}, x, cpu_device());
        const PackLayout& layout = cpu::select_kernels(weights.type()).layout;
        Tensor packed = allocate_packed(op, packed_bytes(params, layout), weight);
        mnv2::pack_stem(params, weights.view(), layout, packed.mutable_data_ptr());
        return packed;
    }

    static Tensor run(const char* op, StemParams params, const Tensor& x, const InputView& view, const Tensor& packed)
    {
        check_image({op, "x"}, params, x);
        const void* weights = check_packed(op, packed, params, view);
        Tensor y = allocate_image(op, x, params.out_channels, params.out_height(), params.out_width());
        launch(op, x, [&] { cpu::stem(params, view, weights, y.mutable_data_ptr(), torch_threads()); });
        return y;
    }

    // --- head and pool ---

    static Tensor pack(const char* op, const HeadPoolParams& params, const Tensor& weight, const OptionalTensor& scale,
                       const OptionalTensor& bias, std::optional<ScalarType> x)
    {
        const ConvolutionTensors weights({op, "", weight, scale, bias}, {params.out_channels, params.in_channels, 1, 1}, x,
                                         cpu_device());
        const PackLayout& layout = cpu::select_kernels(weights.type()).layout;
        Tensor packed = allocate_packed(op, packed_bytes(params, layout), weight);
        mnv2::pack_head_pool(params, weights.view(), layout, packed.mutable_data_ptr());
        return packed;
    }

    static Tensor run(const char* op, HeadPoolParams params, const Tensor& x, const InputView& view, const Tensor& packed)
    {
        check_image({op, "x"}, params, x);
        const void* weights = check_packed(op, packed, params, view);
        Tensor y = allocate(op, {params.batch, params.out_channels}, x.scalar_type(), x);
        launch(op, x, [&] { cpu::head_pool(params, view, weights, y.mutable_data_ptr(), torch_threads()); });
        return y;
    }

    // --- linear ---

    static Tensor pack(const char* op, const LinearParams& params, const Tensor& weight, const OptionalTensor& bias,
                       std::optional<ScalarType> x)
    {
        const ConvolutionTensors weights({op, "", weight, std::nullopt, bias}, {params.out_features, params.in_features}, x,
                                         cpu_device());
        const PackLayout& layout = cpu::select_kernels(weights.type()).layout;
        Tensor packed = allocate_packed(op, packed_bytes(params, layout), weight);
        mnv2::pack_linear(params, weights.view(), layout, packed.mutable_data_ptr());
        return packed;
    }

    static Tensor run(const char* op, LinearParams params, const Tensor& x, const InputView& view, const Tensor& packed)
    {
        check_features({op, "x"}, x, params.in_features);
        params.batch = x.size(0);
        const void* weights = check_packed(op, packed, params, view);
        Tensor y = allocate(op, {params.batch, params.out_features}, x.scalar_type(), x);
        launch(op, x, [&] { cpu::linear(params, view, weights, y.mutable_data_ptr(), torch_threads()); });
        return y;
    }
};

// --- network ---

Tensor pack_network(const std::vector<Tensor>& layers, const std::vector<bool>& same_padding)
{
    constexpr const char* op = "pack_network";
    if (same_padding.size() != layers.size())
        refuse({op, "same_padding"}, std::to_string(layers.size()) + " values, one a layer",
               std::to_string(same_padding.size()));
    std::vector<PackedLayer> parts;
    for (size_t i = 0; i < layers.size(); ++i) {
        const void* data = packed_data({op, "layers[" + std::to_string(i) + "]"}, layers[i]);
        parts.push_back({data, layers[i].numel(), same_padding[i]});
    }
    const std::string mismatch = network_mismatch(parts);
    if (!mismatch.empty()) refuse({op, "layers"}, mismatch);
    Tensor packed = allocate_packed(op, packed_network_bytes(parts), layers.front());
    prefer_huge_pages(packed.mutable_data_ptr(), packed.numel());
    mnv2::pack_network(parts, packed.mutable_data_ptr());
    return packed;
}

// The layers of a packed network, for x.
std::vector<NetworkLayer> check_network(const char* op, const Tensor& x, const Tensor& packed, int64_t in_channels,
                                        int64_t out_channels)
{
    check_channels({op, "in_channels"}, in_channels);
    check_channels({op, "out_channels"}, out_channels);
    const Argument image{op, "x"}, weights{op, "packed"};
    const void* data = packed_data(weights, packed);
    std::vector<NetworkLayer> layers;
    const std::string mismatch = read_network(data, packed.numel(), layers);
    if (!mismatch.empty()) refuse(weights, mismatch);
    const Channels found{channels_of(layers.front().params).in, channels_of(layers.back().params).out};
    if (found.in != in_channels || found.out != out_channels)
        refuse(weights, "a network with channels " + std::to_string(in_channels) + " -> " + std::to_string(out_channels),
               "one with " + std::to_string(found.in) + " -> " + std::to_string(found.out));
    check_arithmetic(image, check_scalar_type(image, x), stored_type(packed_isa(data)));
    check_image(image, layers, x);
    return layers;
}

// layer_seconds: null, or is set to the time of each layer.
Tensor run_network(const char* op, const Tensor& x, const Tensor& packed, int64_t in_channels, int64_t out_channels,
                   std::vector<double>* layer_seconds)
{
    const InputView view = check_input({op, "x"}, x);
    const std::vector<NetworkLayer> layers = check_network(op, x, packed, in_channels, out_channels);
    if (layer_seconds) layer_seconds->assign(layers.size(), 0.0);
    double* seconds = layer_seconds ? layer_seconds->data() : nullptr;
    Tensor y = allocate(op, {x.size(0), out_channels}, x.scalar_type(), x);
    launch(op, x, [&] { cpu::network(layers, view, y.mutable_data_ptr(), torch_threads(), seconds); });
    return y;
}

Tensor network(const Tensor& x, const Tensor& packed, int64_t in_channels, int64_t out_channels)
{
    return run_network("network", x, packed, in_channels, out_channels, nullptr);
}

Tensor network_seconds(const Tensor& x, const Tensor& packed, int64_t in_channels, int64_t out_channels)
{
    constexpr const char* op = "network_seconds";
    std::vector<double> seconds;
    run_network(op, x, packed, in_channels, out_channels, &seconds);
    Tensor result = allocate(op, {static_cast<int64_t>(seconds.size())}, torch::headeronly::ScalarType::Double, x);
    std::copy(seconds.begin(), seconds.end(), static_cast<double*>(result.mutable_data_ptr()));
    return result;
}

}  // namespace
}  // namespace mnv2::ops

STABLE_TORCH_LIBRARY_IMPL(mnv2, CPU, m)
{
    mnv2::ops::Operators<mnv2::ops::CpuBackend>::implement(m);
    m.impl("pack_network", TORCH_BOX(&mnv2::ops::pack_network));
    m.impl("network", TORCH_BOX(&mnv2::ops::network));
    m.impl("network_seconds", TORCH_BOX(&mnv2::ops::network_seconds));
}
