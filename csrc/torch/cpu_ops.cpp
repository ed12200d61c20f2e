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
#include "cpu/isa/dispatch.h"
#include "cpu/run/huge_pages.h"
#include "cpu/run/network.h"
#include "cpu/served.h"
#include "torch/allocate.h"
#include "torch/arguments.h"
#include "torch/checks.h"
#include "torch/int8/ops.h"
#include "torch/operators.h"
#include "torch/threads.h"
#include "torch/weights.h"

namespace mnv2::ops {
namespace {

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

// What a packed buffer, which has to be of `layers` and serve x, says of where their weights are.
Layers read_packed(const char* op, Layers layers, const Tensor& packed, ScalarType x)
{
    const Argument argument{op, "packed"};
    const void* data = packed_data(argument, packed);
    Layers found;
    const std::string mismatch = read_network(data, packed.numel(), found);
    if (!mismatch.empty()) refuse(argument, mismatch);
    if (!are_same(layers, found)) refuse(argument, "weights of " + text_of(layers), "those of " + text_of(found));
    check_arithmetic({op, "x"}, x, stored_type(packed_isa(data)));
    for (size_t index = 0; index < layers.size(); ++index) layers[index].packed_at = found[index].packed_at;
    return layers;
}

class CpuPlan {
public:
    CpuPlan(const char* op, const Layers& completed, ScalarType type, const Tensor& x, const Tensor& packed)
        : CpuPlan(op, read_packed(op, completed, packed, type), x, packed)
    {
    }

    bool serves(const char* op, const Tensor&, const Tensor& packed) const
    {
        const void* data = packed_data({op, "packed"}, packed);
        return threads_ == torch::stable::get_num_threads() && frame_.is_of(data, packed.numel());
    }

    size_t layers() const { return layers_; }
    const TensorShape& result() const { return result_; }
    const cpu::NetworkPlan& network() const { return *network_; }  // if there are images

private:
    CpuPlan(const char* op, const Layers& layers, const Tensor& x, const Tensor& packed)
        : layers_(layers.size()),
          threads_(torch::stable::get_num_threads()),
          frame_(packed.const_data_ptr(), packed.numel(), layers),
          result_(result_shape(layers))
    {
        const cpu::Kernels& kernels = cpu::kernels_for(packed_isa(packed.const_data_ptr()));
        refuse_unserved(op, layers, cpu::served_options(kernels));
        if (x.size(0) == 0) return;
        network_ = cpu::plan_network(layers, kernels, threads_);
    }

    size_t layers_;
    int64_t threads_;
    NetworkFrame frame_;
    TensorShape result_;
    std::optional<cpu::NetworkPlan> network_;
};

// layer_seconds: null, or a number for each layer, to which its time is added.
Tensor run_layers(const char* op, const Prepared<CpuPlan>& call, const Tensor& x, const Tensor& packed, double* layer_seconds)
{
    Tensor y = allocate(op, call.plan.result(), dtype_of(call.type), x);
    launch(op, x, [&] {
        cpu::network(call.plan.network(), view_of(x, call.type, call.is_bytes), packed.const_data_ptr(), y.mutable_data_ptr(),
                     torch_threads(), layer_seconds);
    });
    return y;
}

// Packs one layer into bytes of its own.
class LayerPacker {
public:
    LayerPacker(const LayerArguments& arguments, const PackLayout& layout) : layout_(layout)
    {
        for (const ConvolutionArguments& convolution : arguments.convolutions) tensors_.emplace_back(convolution);
        if (arguments.table) table_ = torch::stable::contiguous(*arguments.table->table);
    }

    std::vector<char> operator()(const InvertedResidualParams& params) const
    {
        const BlockConvolutions weights = block_convolutions(params, tensors_);
        return packed_by(params, [&](void* to) { pack_block(params, weights, layout_, to); });
    }
    std::vector<char> operator()(const StemParams& params) const
    {
        const auto* const table = table_ ? static_cast<const float*>(table_->const_data_ptr()) : nullptr;
        return packed_by(params, [&](void* to) { pack_stem(params, tensors_[0].view(), layout_, to, table); });
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
    OptionalTensor table_;
};

struct CpuBackend {
    using Plan = CpuPlan;
    static constexpr bool reads_portable = true;

    static Device device(const Tensor&) { return cpu_device(); }

    static Tensor pack(const char* op, const Layers& layers, const std::vector<LayerArguments>& arguments,
                       std::optional<ScalarType>)
    {
        const cpu::Kernels& kernels = cpu::select_kernels(weights_type(arguments));
        refuse_unserved(op, layers, cpu::served_options(kernels));
        const PackLayout& layout = kernels.layout;
        std::vector<std::vector<char>> buffers;
        std::vector<PackedLayer> parts;
        for (size_t index = 0; index < layers.size(); ++index) {
            buffers.push_back(std::visit(LayerPacker(arguments[index], layout), layers[index].params));
            const std::vector<char>& bytes = buffers.back();
            parts.push_back({bytes.data(), static_cast<int64_t>(bytes.size()), layers[index].same_padding});
        }
        Tensor packed = allocate_bytes(op, packed_network_bytes(parts), *arguments[0].convolutions[0].weight);
        prefer_huge_pages(packed.mutable_data_ptr(), packed.numel());
        pack_network(parts, packed.mutable_data_ptr());
        return packed;
    }

    static Tensor run(const char* op, const Prepared<CpuPlan>& call, const Tensor& x, const Tensor& packed)
    {
        return run_layers(op, call, x, packed, nullptr);
    }

    static Tensor pack_int8(const char* op, const Layers& layers, const OptionalTensors& weights)
    {
        return ops::pack_int8(op, layers, weights);
    }
    static Tensor run_int8(const char* op, const std::string& text, const Tensor& x, const Tensor& packed)
    {
        return ops::run_int8(op, text, x, packed);
    }
};

Tensor run_seconds(const Tensor& x, const Tensor& given, const std::string& text)
{
    constexpr const char* op = "run_seconds";
    const Tensor packed = Operators<CpuBackend>::for_this_machine(op, given, text);
    if (text.find(int8_option) != std::string::npos) return run_int8_seconds(op, text, x, packed);
    const auto call = find_prepared<CpuPlan>(op, text, x, packed);
    const auto layers = static_cast<int64_t>(call->plan.layers());
    Tensor seconds = allocate(op, {{layers}, {1}}, aoti_torch_dtype_float64(), x);
    auto* const to = static_cast<double*>(seconds.mutable_data_ptr());
    std::fill_n(to, layers, 0.0);
    run_layers(op, *call, x, packed, to);
    return seconds;
}

}  // namespace
}  // namespace mnv2::ops

STABLE_TORCH_LIBRARY_IMPL(mnv2, CPU, m)
{
    mnv2::ops::Operators<mnv2::ops::CpuBackend>::implement(m);
    m.impl("run_seconds", TORCH_BOX(&mnv2::ops::run_seconds));
}
