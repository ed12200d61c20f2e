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

#include "core/network.h"
#include "core/packing.h"
#include "core/parallel.h"
#include "cpu/isa/dispatch.h"
#include "cpu/run/huge_pages.h"
#include "cpu/run/network.h"
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

// The layers of a packed buffer, which have to be `layers` and serve x.
Layers read_packed(const char* op, const Tensor& packed, const Layers& layers, ScalarType x)
{
    const Argument argument{op, "packed"};
    const void* data = packed_data(argument, packed);
    Layers found;
    const std::string mismatch = read_network(data, packed.numel(), found);
    if (!mismatch.empty()) refuse(argument, mismatch);
    if (!are_same(layers, found)) refuse(argument, "weights of " + text_of(layers), "those of " + text_of(found));
    check_arithmetic({op, "x"}, x, stored_type(packed_isa(data)));
    return found;
}

Tensor allocate_result(const char* op, const Layers& layers, const Tensor& x)
{
    const int64_t channels = channels_of(layers.back().params).out;
    if (!ends_in_image(layers)) return allocate(op, {x.size(0), channels}, x.scalar_type(), x);
    const ImageSize size = result_size(layers.back());
    return allocate_image(op, x, channels, size.height, size.width);
}

// layer_seconds: null, or is set to the time of each layer.
Tensor run_layers(const char* op, Layers layers, const Tensor& x, const InputView& view, const Tensor& packed,
                  std::vector<double>* layer_seconds)
{
    const Layers found = read_packed(op, packed, layers, view.dtype);
    for (size_t index = 0; index < layers.size(); ++index) layers[index].packed = found[index].packed;
    double* seconds = nullptr;
    if (layer_seconds) {
        layer_seconds->assign(layers.size(), 0.0);
        seconds = layer_seconds->data();
    }
    Tensor y = allocate_result(op, layers, x);
    launch(op, x, [&] { cpu::network(layers, view, y.mutable_data_ptr(), torch_threads(), seconds); });
    return y;
}

// Packs one layer into bytes of its own.
class LayerPacker {
public:
    LayerPacker(const LayerArguments& arguments, const PackLayout& layout) : layout_(layout)
    {
        for (const ConvolutionArguments& convolution : arguments.convolutions) tensors_.emplace_back(convolution);
    }

    std::vector<char> operator()(const InvertedResidualParams& params) const
    {
        const size_t last = tensors_.size() - 1;
        const ConvolutionWeights expand = params.has_expand ? tensors_[0].view() : ConvolutionWeights{};
        return packed_by(params, [&](void* to) {
            pack_block(params, expand, tensors_[last - 1].view(), tensors_[last].view(), layout_, to);
        });
    }
    std::vector<char> operator()(const StemParams& params) const
    {
        return packed_by(params, [&](void* to) { pack_stem(params, tensors_[0].view(), layout_, to); });
    }
    std::vector<char> operator()(const HeadPoolParams& params) const
    {
        return packed_by(params, [&](void* to) { pack_head_pool(params, tensors_[0].view(), layout_, to); });
    }
    std::vector<char> operator()(const LinearParams& params) const
    {
        return packed_by(params, [&](void* to) { pack_linear(params, tensors_[0].view(), layout_, to); });
    }

private:
    template <typename Params, typename Pack>
    std::vector<char> packed_by(const Params& params, const Pack& pack) const
    {
        std::vector<char> bytes(static_cast<size_t>(packed_bytes(params, layout_)));
        pack(bytes.data());
        return bytes;
    }

    const PackLayout& layout_;
    std::vector<ConvolutionTensors> tensors_;
};

struct CpuBackend {
    static Device device(const Tensor&) { return cpu_device(); }

    static Tensor pack(const char* op, const Layers& layers, const std::vector<LayerArguments>& arguments,
                       std::optional<ScalarType>)
    {
        const PackLayout& layout = cpu::select_kernels(weights_type(arguments)).layout;
        std::vector<std::vector<char>> buffers;
        std::vector<PackedLayer> parts;
        for (size_t index = 0; index < layers.size(); ++index) {
            buffers.push_back(std::visit(LayerPacker(arguments[index], layout), layers[index].params));
            const std::vector<char>& bytes = buffers.back();
            parts.push_back({bytes.data(), static_cast<int64_t>(bytes.size()), layers[index].same_padding});
        }
        Tensor packed = allocate_packed(op, packed_network_bytes(parts), *arguments[0].convolutions[0].weight);
        prefer_huge_pages(packed.mutable_data_ptr(), packed.numel());
        pack_network(parts, packed.mutable_data_ptr());
        return packed;
    }

    static Tensor run(const char* op, const std::string&, const Layers& layers, const Tensor& x, const InputView& view,
                      const Tensor& packed)
    {
        return run_layers(op, layers, x, view, packed, nullptr);
    }
};

Tensor run_seconds(const Tensor& x, const Tensor& packed, const std::string& text)
{
    constexpr const char* op = "run_seconds";
    Layers layers = *known_layers(op, text);
    const InputView view = check_x({op, "x"}, layers, x);
    complete_by({op, "x"}, x, layers);
    std::vector<double> seconds;
    run_layers(op, layers, x, view, packed, &seconds);
    Tensor result = allocate(op, {static_cast<int64_t>(seconds.size())}, torch::headeronly::ScalarType::Double, x);
    std::copy(seconds.begin(), seconds.end(), static_cast<double*>(result.mutable_data_ptr()));
    return result;
}

}  // namespace
}  // namespace mnv2::ops

STABLE_TORCH_LIBRARY_IMPL(mnv2, CPU, m)
{
    mnv2::ops::Operators<mnv2::ops::CpuBackend>::implement(m);
    m.impl("run_seconds", TORCH_BOX(&mnv2::ops::run_seconds));
}
