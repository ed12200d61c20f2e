// The operators of any device whose kernels are C++: arguments checked into layers, for a backend.
#pragma once

#include <torch/csrc/stable/library.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/layer.h"
#include "torch/arguments.h"
#include "torch/checks.h"
#include "torch/portable.h"
#include "torch/prepared.h"

namespace mnv2::ops {

// The kernel of a convolution's weight, which is checked whole once the layer is known.
inline int64_t kernel_of(const Tensor& weight)
{
    return weight.dim() == 4 ? weight.size(3) : kernel_size;
}

// The output channels of a convolution's weight (or of a linear layer's), which is checked whole once the layer is known.
inline int64_t check_outputs(const Argument& argument, const Tensor& weight)
{
    check_given(argument, weight);
    if (weight.dim() == 0) refuse(argument, "a weight for each output channel", "shape " + shape_text(weight));
    return check_channels(argument, weight.size(0));
}

// Backend has pack(op, layers, arguments, x) for checked arguments, x being the dtype of the tensor that the weights will
// serve, none where only weights are packed; a Plan as prepared.h wants it; run(op, call, x, packed) for a Prepared<Plan>; and
// pack_int8(op, layers, weights) and run_int8(op, text, x, packed) for layers of bytes, unchecked. Where
// Backend::reads_portable, it takes portable weights, too.
template <class Backend>
struct Operators {
    static Tensor pack(const OptionalTensors& weights, const std::string& text, bool portable)
    {
        constexpr const char* op = "pack";
        const OptionalTensors given = without_undefined(weights);
        Tensor packed = pack_for_this_machine(op, given, text);
        if (!portable) return packed;
        if constexpr (Backend::reads_portable) return to_portable(op, given);  // packing has checked them
        refuse({op, "portable"}, "False (portable weights are for CPUs)", "True");
    }

    static Tensor run(const Tensor& x, const Tensor& packed, const std::string& text)
    {
        constexpr const char* op = "run";
        return run_anything(op, x, for_this_machine(op, packed, text), text);
    }

    // What run takes, as weights packed for this machine.
    static Tensor for_this_machine(const char* op, const Tensor& packed, const std::string& text)
    {
        if constexpr (Backend::reads_portable) {
            const auto pack = [op, &text](const OptionalTensors& weights) { return pack_for_this_machine(op, weights, text); };
            if (is_portable(packed)) return packed_here(op, packed, text, pack);
        }
        return packed;
    }
    static Tensor fused_block(const Tensor& x, const OptionalTensor& expand_weight, const OptionalTensor& expand_scale,
                              const OptionalTensor& expand_bias, const Tensor& depthwise_weight,
                              const OptionalTensor& depthwise_scale, const OptionalTensor& depthwise_bias,
                              const Tensor& project_weight, const OptionalTensor& project_scale,
                              const OptionalTensor& project_bias, const OptionalTensor& squeeze_weight,
                              const OptionalTensor& squeeze_bias, const OptionalTensor& excite_weight,
                              const OptionalTensor& excite_bias, int64_t stride, const Integers& padding, bool residual,
                              const std::string& activation, const std::string& project_activation,
                              const std::optional<std::string>& depthwise_activation, const std::string& squeeze_activation,
                              const std::string& excite_activation)
    {
        constexpr const char* op = "fused_block";
        const ScalarType type = check_input({op, "x"}, x).dtype;
        Layer layer;
        layer.in_channels = x.size(1);
        layer.expanded_channels = check_outputs({op, "depthwise_weight"}, depthwise_weight);
        layer.out_channels = check_outputs({op, "project_weight"}, project_weight);
        if (!expand_weight) layer.expanded_channels = x.size(1);
        layer.has_expand = expand_weight.has_value();
        layer.has_residual = residual;
        set_window(op, depthwise_weight, stride, padding, layer);
        refuse_if(op, set_activation(activation, layer.activation, "activation"));
        refuse_if(op, set_activation(project_activation, layer.project_activation, "project_activation"));
        if (depthwise_activation) refuse_if(op, set_depthwise_activation(*depthwise_activation, layer));
        refuse_if(op, set_activation(squeeze_activation, layer.squeeze_activation, "squeeze_activation"));
        refuse_if(op, set_excite_activation(excite_activation, layer.excite_activation));
        OptionalTensors weights{expand_weight,  expand_scale,   expand_bias,   depthwise_weight, depthwise_scale,
                                depthwise_bias, project_weight, project_scale, project_bias};
        if (squeeze_weight) {
            layer.squeezed_channels = check_outputs({op, "squeeze_weight"}, *squeeze_weight);
            weights.insert(weights.end(), {squeeze_weight, squeeze_bias, excite_weight, excite_bias});
        } else if (excite_weight || squeeze_bias || excite_bias) {
            refuse({op, "squeeze_weight"}, "a tensor beside those of a gate", "None");
        }
        return run_unpacked(op, x, type, layer, weights);
    }

    static Tensor stem(const Tensor& x, const Tensor& weight, const OptionalTensor& scale, const OptionalTensor& bias,
                       int64_t stride, const Integers& padding, const std::string& activation)
    {
        constexpr const char* op = "stem";
        const ScalarType type = check_input({op, "x"}, x).dtype;
        Layer layer = dense_layer(op, LayerKind::stem, x, weight);
        set_window(op, weight, stride, padding, layer);
        refuse_if(op, set_activation(activation, layer.activation, "activation"));
        return run_unpacked(op, x, type, layer, {weight, scale, bias});
    }

    static Tensor head_pool(const Tensor& x, const Tensor& weight, const OptionalTensor& scale, const OptionalTensor& bias,
                            const std::string& activation)
    {
        constexpr const char* op = "head_pool";
        const ScalarType type = check_input({op, "x"}, x).dtype;
        Layer layer = dense_layer(op, LayerKind::head_pool, x, weight);
        refuse_if(op, set_activation(activation, layer.activation, "activation"));
        return run_unpacked(op, x, type, layer, {weight, scale, bias});
    }

    static Tensor linear(const Tensor& x, const Tensor& weight, const OptionalTensor& bias, const std::string& activation)
    {
        constexpr const char* op = "linear";
        const ScalarType type = check_vectors({op, "x"}, x).dtype;
        Layer layer = dense_layer(op, LayerKind::linear, x, weight);
        refuse_if(op, set_activation(activation, layer.activation, "activation"));
        return run_unpacked(op, x, type, layer, {weight, bias});
    }

    template <class Library>
    static void implement(Library& m)
    {
        m.impl("fused_block", TORCH_BOX(&Operators::fused_block));
        m.impl("stem", TORCH_BOX(&Operators::stem));
        m.impl("head_pool", TORCH_BOX(&Operators::head_pool));
        m.impl("linear", TORCH_BOX(&Operators::linear));
        m.impl("pack", TORCH_BOX(&Operators::pack));
        m.impl("run", TORCH_BOX(&Operators::run));
    }

private:
    static Tensor pack_for_this_machine(const char* op, const OptionalTensors& weights, const std::string& text)
    {
        const Layers layers = read_chain(op, text);
        if (layers.front().arithmetic == Arithmetic::int8) return Backend::pack_int8(op, layers, weights);
        const std::vector<LayerArguments> arguments = layer_arguments(op, layers, weights);
        check_weights(arguments, bytes_as(layers), Backend::device(first_weight(op, weights)));
        return Backend::pack(op, layers, arguments, std::nullopt);
    }

    static Tensor run_anything(const char* op, const Tensor& x, const Tensor& packed, const std::string& text)
    {
        if (text.find(int8_option) != std::string::npos) return Backend::run_int8(op, text, x, packed);
        return run_packed(op, x, packed, text);
    }

    static void set_window(const char* op, const Tensor& weight, int64_t stride, const Integers& padding, Layer& layer)
    {
        refuse_if(op, set_kernel(kernel_of(weight), layer.kernel));
        refuse_if(op, set_stride(stride, layer.stride));
        refuse_if(op, set_padding(padding, layer.kernel, layer.padding));
    }

    static Layer dense_layer(const char* op, LayerKind kind, const Tensor& x, const Tensor& weight)
    {
        Layer layer;
        layer.kind = kind;
        layer.in_channels = x.size(1);
        layer.out_channels = check_outputs({op, "weight"}, weight);
        return layer;
    }

    // A layer on weights that are packed for this call.
    static Tensor run_unpacked(const char* op, const Tensor& x, ScalarType type, const Layer& layer,
                               const OptionalTensors& weights)
    {
        const OptionalTensors given = without_undefined(weights);
        refuse_if(op, find_error(layer));
        Layers layers{to_network_layer(layer)};
        const std::vector<LayerArguments> arguments = layer_arguments(op, layers, given);
        check_weights(arguments, type, Backend::device(x));
        complete_by({op, "x"}, x, layers);
        return run_packed(op, x, Backend::pack(op, layers, arguments, type), text_of(layer));
    }

    static Tensor run_packed(const char* op, const Tensor& x, const Tensor& packed, const std::string& text)
    {
        return Backend::run(op, *find_prepared<typename Backend::Plan>(op, text, x, packed), x, packed);
    }
};

}  // namespace mnv2::ops
