// The operators of any device whose kernels are C++: arguments checked into plain parameters, for a backend.
#pragma once

#include <torch/csrc/stable/library.h>

#include <cstdint>
#include <optional>
#include <string>

#include "torch/arguments.h"
#include "torch/checks.h"

namespace mnv2::ops {

// Backend has pack(...) and run(op, params, x, view, packed) for the four kinds of layers. x: of packers, the dtype of the
// tensor that the weights will serve; none where only weights are packed.
template <class Backend>
struct Operators {
    // --- inverted residual ---

    static Tensor fused_block(const Tensor& x, const OptionalTensor& expand_weight, const OptionalTensor& expand_scale,
                              const OptionalTensor& expand_bias, const Tensor& depthwise_weight,
                              const OptionalTensor& depthwise_scale, const OptionalTensor& depthwise_bias,
                              const Tensor& project_weight, const OptionalTensor& project_scale,
                              const OptionalTensor& project_bias, int64_t stride, const Integers& padding, bool residual,
                              const std::string& activation, const std::string& project_activation)
    {
        constexpr const char* op = "fused_block";
        const InputView view = check_input({op, "x"}, x);
        const BlockArguments weights{op,
                                     expand_weight,
                                     expand_scale,
                                     expand_bias,
                                     depthwise_weight,
                                     depthwise_scale,
                                     depthwise_bias,
                                     project_weight,
                                     project_scale,
                                     project_bias};
        const BlockOptions options{stride, padding, residual, activation, project_activation};
        const InvertedResidualParams params = check_block(op, block_channels(weights, x.size(1)), options);
        return Backend::run(op, params, x, view, Backend::pack(weights, params, view.dtype));
    }

    static Tensor pack_block(const OptionalTensor& expand_weight, const OptionalTensor& expand_scale,
                             const OptionalTensor& expand_bias, const Tensor& depthwise_weight,
                             const OptionalTensor& depthwise_scale, const OptionalTensor& depthwise_bias,
                             const Tensor& project_weight, const OptionalTensor& project_scale,
                             const OptionalTensor& project_bias, int64_t stride, const Integers& padding, bool residual,
                             const std::string& activation, const std::string& project_activation)
    {
        constexpr const char* op = "pack_block";
        const BlockArguments weights{op,
                                     expand_weight,
                                     expand_scale,
                                     expand_bias,
                                     depthwise_weight,
                                     depthwise_scale,
                                     depthwise_bias,
                                     project_weight,
                                     project_scale,
                                     project_bias};
        const BlockOptions options{stride, padding, residual, activation, project_activation};
        const InvertedResidualParams params = check_block(op, block_channels(weights, std::nullopt), options);
        return Backend::pack(weights, params, std::nullopt);
    }

    static Tensor fused_block_packed(const Tensor& x, const Tensor& packed, int64_t in_channels, int64_t expanded_channels,
                                     int64_t out_channels, bool expand, int64_t stride, const Integers& padding, bool residual,
                                     const std::string& activation, const std::string& project_activation)
    {
        constexpr const char* op = "fused_block_packed";
        const InputView view = check_input({op, "x"}, x);
        const BlockOptions options{stride, padding, residual, activation, project_activation};
        return Backend::run(op, check_block(op, {in_channels, expanded_channels, out_channels, expand}, options), x, view,
                            packed);
    }

    // --- stem ---

    static Tensor stem(const Tensor& x, const Tensor& weight, const OptionalTensor& scale, const OptionalTensor& bias,
                       int64_t stride, const Integers& padding, const std::string& activation)
    {
        constexpr const char* op = "stem";
        const InputView view = check_input({op, "x"}, x);
        check_dim({op, "weight"}, weight, 4);
        const StemParams params = check_stem(op, x.size(1), weight.size(0), {stride, padding, activation});
        return Backend::run(op, params, x, view, Backend::pack(op, params, weight, scale, bias, view.dtype));
    }

    static Tensor pack_stem(const Tensor& weight, const OptionalTensor& scale, const OptionalTensor& bias, int64_t stride,
                            const Integers& padding, const std::string& activation)
    {
        constexpr const char* op = "pack_stem";
        check_dim({op, "weight"}, weight, 4);
        const StemParams params = check_stem(op, weight.size(1), weight.size(0), {stride, padding, activation});
        return Backend::pack(op, params, weight, scale, bias, std::nullopt);
    }

    static Tensor stem_packed(const Tensor& x, const Tensor& packed, int64_t in_channels, int64_t out_channels, int64_t stride,
                              const Integers& padding, const std::string& activation)
    {
        constexpr const char* op = "stem_packed";
        const InputView view = check_input({op, "x"}, x);
        return Backend::run(op, check_stem(op, in_channels, out_channels, {stride, padding, activation}), x, view, packed);
    }

    // --- head and pool ---

    static Tensor head_pool(const Tensor& x, const Tensor& weight, const OptionalTensor& scale, const OptionalTensor& bias,
                            const std::string& activation)
    {
        constexpr const char* op = "head_pool";
        const InputView view = check_input({op, "x"}, x);
        check_dim({op, "weight"}, weight, 4);
        const HeadPoolParams params = check_head_pool(op, x.size(1), weight.size(0), activation);
        return Backend::run(op, params, x, view, Backend::pack(op, params, weight, scale, bias, view.dtype));
    }

    static Tensor pack_head_pool(const Tensor& weight, const OptionalTensor& scale, const OptionalTensor& bias,
                                 const std::string& activation)
    {
        constexpr const char* op = "pack_head_pool";
        check_dim({op, "weight"}, weight, 4);
        const HeadPoolParams params = check_head_pool(op, weight.size(1), weight.size(0), activation);
        return Backend::pack(op, params, weight, scale, bias, std::nullopt);
    }

    static Tensor head_pool_packed(const Tensor& x, const Tensor& packed, int64_t in_channels, int64_t out_channels,
                                   const std::string& activation)
    {
        constexpr const char* op = "head_pool_packed";
        const InputView view = check_input({op, "x"}, x);
        return Backend::run(op, check_head_pool(op, in_channels, out_channels, activation), x, view, packed);
    }

    // --- linear ---

    static Tensor linear(const Tensor& x, const Tensor& weight, const OptionalTensor& bias)
    {
        constexpr const char* op = "linear";
        const InputView view = check_vectors({op, "x"}, x);
        check_dim({op, "weight"}, weight, 2);
        const LinearParams params = check_linear(op, x.size(1), weight.size(0));
        return Backend::run(op, params, x, view, Backend::pack(op, params, weight, bias, view.dtype));
    }

    static Tensor pack_linear(const Tensor& weight, const OptionalTensor& bias)
    {
        constexpr const char* op = "pack_linear";
        check_dim({op, "weight"}, weight, 2);
        return Backend::pack(op, check_linear(op, weight.size(1), weight.size(0)), weight, bias, std::nullopt);
    }

    static Tensor linear_packed(const Tensor& x, const Tensor& packed, int64_t in_features, int64_t out_features)
    {
        constexpr const char* op = "linear_packed";
        const InputView view = check_vectors({op, "x"}, x);
        return Backend::run(op, check_linear(op, in_features, out_features), x, view, packed);
    }

    template <class Library>
    static void implement(Library& m)
    {
        m.impl("fused_block", TORCH_BOX(&Operators::fused_block));
        m.impl("pack_block", TORCH_BOX(&Operators::pack_block));
        m.impl("fused_block_packed", TORCH_BOX(&Operators::fused_block_packed));
        m.impl("stem", TORCH_BOX(&Operators::stem));
        m.impl("pack_stem", TORCH_BOX(&Operators::pack_stem));
        m.impl("stem_packed", TORCH_BOX(&Operators::stem_packed));
        m.impl("head_pool", TORCH_BOX(&Operators::head_pool));
        m.impl("pack_head_pool", TORCH_BOX(&Operators::pack_head_pool));
        m.impl("head_pool_packed", TORCH_BOX(&Operators::head_pool_packed));
        m.impl("linear", TORCH_BOX(&Operators::linear));
        m.impl("pack_linear", TORCH_BOX(&Operators::pack_linear));
        m.impl("linear_packed", TORCH_BOX(&Operators::linear_packed));
    }
};

}  // namespace mnv2::ops
