// The checks of the operators as operators, of any device: what a kernel that is not written in C++ calls first.
//
// Each takes the arguments of its operator. Those of packed weights take the lengths in bytes that weights packed for
// float32, float16 and bfloat16 have, and return the position of the one that came; those of packers return the position of
// the dtype to pack in.
#include <torch/csrc/stable/library.h>

#include <cstdint>
#include <optional>
#include <string>

#include "torch/arguments.h"
#include "torch/checks.h"

namespace mnv2::ops::checking {
namespace {

int64_t position_of(ScalarType type)
{
    int64_t position = 0;
    while (packed_types[position] != type) ++position;
    return position;
}

int64_t check_packed(const char* op, const Tensor& x, const Tensor& packed, const Integers& lengths)
{
    return position_of(check_packed_length({op, "packed"}, x, packed, lengths));
}

// --- inverted residual ---

void fused_block(const Tensor& x, const OptionalTensor& expand_weight, const OptionalTensor& expand_scale,
                 const OptionalTensor& expand_bias, const Tensor& depthwise_weight, const OptionalTensor& depthwise_scale,
                 const OptionalTensor& depthwise_bias, const Tensor& project_weight, const OptionalTensor& project_scale,
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
    InvertedResidualParams params = check_block(op, block_channels(weights, x.size(1)), options);
    check_weights(weights, params, view.dtype, device_of(x));
    check_image({op, "x"}, params, x);
}

int64_t pack_block(const OptionalTensor& expand_weight, const OptionalTensor& expand_scale, const OptionalTensor& expand_bias,
                   const Tensor& depthwise_weight, const OptionalTensor& depthwise_scale, const OptionalTensor& depthwise_bias,
                   const Tensor& project_weight, const OptionalTensor& project_scale, const OptionalTensor& project_bias,
                   int64_t stride, const Integers& padding, bool residual, const std::string& activation,
                   const std::string& project_activation)
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
    check_weights(weights, params, std::nullopt, device_of(project_weight));
    return position_of(weights_type(weights));
}

int64_t fused_block_packed(const Tensor& x, const Tensor& packed, const Integers& lengths, int64_t in_channels,
                           int64_t expanded_channels, int64_t out_channels, bool expand, int64_t stride,
                           const Integers& padding, bool residual, const std::string& activation,
                           const std::string& project_activation)
{
    constexpr const char* op = "fused_block_packed";
    check_input({op, "x"}, x);
    const BlockOptions options{stride, padding, residual, activation, project_activation};
    InvertedResidualParams params = check_block(op, {in_channels, expanded_channels, out_channels, expand}, options);
    check_image({op, "x"}, params, x);
    return check_packed(op, x, packed, lengths);
}

// --- stem ---

Integers stem_shape(const StemParams& params)
{
    return {params.out_channels, params.in_channels, kernel_size, kernel_size};
}

void stem(const Tensor& x, const Tensor& weight, const OptionalTensor& scale, const OptionalTensor& bias, int64_t stride,
          const Integers& padding, const std::string& activation)
{
    constexpr const char* op = "stem";
    const InputView view = check_input({op, "x"}, x);
    check_dim({op, "weight"}, weight, 4);
    StemParams params = check_stem(op, x.size(1), weight.size(0), {stride, padding, activation});
    check_convolution({op, "", weight, scale, bias}, stem_shape(params), view.dtype, device_of(x));
    check_image({op, "x"}, params, x);
}

int64_t pack_stem(const Tensor& weight, const OptionalTensor& scale, const OptionalTensor& bias, int64_t stride,
                  const Integers& padding, const std::string& activation)
{
    constexpr const char* op = "pack_stem";
    check_dim({op, "weight"}, weight, 4);
    const StemParams params = check_stem(op, weight.size(1), weight.size(0), {stride, padding, activation});
    check_convolution({op, "", weight, scale, bias}, stem_shape(params), std::nullopt, device_of(weight));
    return position_of(check_scalar_type({op, "weight"}, weight));
}

int64_t stem_packed(const Tensor& x, const Tensor& packed, const Integers& lengths, int64_t in_channels, int64_t out_channels,
                    int64_t stride, const Integers& padding, const std::string& activation)
{
    constexpr const char* op = "stem_packed";
    check_input({op, "x"}, x);
    StemParams params = check_stem(op, in_channels, out_channels, {stride, padding, activation});
    check_image({op, "x"}, params, x);
    return check_packed(op, x, packed, lengths);
}

// --- head and pool ---

void head_pool(const Tensor& x, const Tensor& weight, const OptionalTensor& scale, const OptionalTensor& bias,
               const std::string& activation)
{
    constexpr const char* op = "head_pool";
    const InputView view = check_input({op, "x"}, x);
    check_dim({op, "weight"}, weight, 4);
    HeadPoolParams params = check_head_pool(op, x.size(1), weight.size(0), activation);
    check_convolution({op, "", weight, scale, bias}, {params.out_channels, params.in_channels, 1, 1}, view.dtype, device_of(x));
    check_image({op, "x"}, params, x);
}

int64_t pack_head_pool(const Tensor& weight, const OptionalTensor& scale, const OptionalTensor& bias,
                       const std::string& activation)
{
    constexpr const char* op = "pack_head_pool";
    check_dim({op, "weight"}, weight, 4);
    const HeadPoolParams params = check_head_pool(op, weight.size(1), weight.size(0), activation);
    check_convolution({op, "", weight, scale, bias}, {params.out_channels, params.in_channels, 1, 1}, std::nullopt,
                      device_of(weight));
    return position_of(check_scalar_type({op, "weight"}, weight));
}

int64_t head_pool_packed(const Tensor& x, const Tensor& packed, const Integers& lengths, int64_t in_channels,
                         int64_t out_channels, const std::string& activation)
{
    constexpr const char* op = "head_pool_packed";
    check_input({op, "x"}, x);
    HeadPoolParams params = check_head_pool(op, in_channels, out_channels, activation);
    check_image({op, "x"}, params, x);
    return check_packed(op, x, packed, lengths);
}

// --- linear ---

void linear(const Tensor& x, const Tensor& weight, const OptionalTensor& bias)
{
    constexpr const char* op = "linear";
    const InputView view = check_vectors({op, "x"}, x);
    check_dim({op, "weight"}, weight, 2);
    const LinearParams params = check_linear(op, x.size(1), weight.size(0));
    check_convolution({op, "", weight, std::nullopt, bias}, {params.out_features, params.in_features}, view.dtype,
                      device_of(x));
}

int64_t pack_linear(const Tensor& weight, const OptionalTensor& bias)
{
    constexpr const char* op = "pack_linear";
    check_dim({op, "weight"}, weight, 2);
    const LinearParams params = check_linear(op, weight.size(1), weight.size(0));
    check_convolution({op, "", weight, std::nullopt, bias}, {params.out_features, params.in_features}, std::nullopt,
                      device_of(weight));
    return position_of(check_scalar_type({op, "weight"}, weight));
}

int64_t linear_packed(const Tensor& x, const Tensor& packed, const Integers& lengths, int64_t in_features, int64_t out_features)
{
    constexpr const char* op = "linear_packed";
    check_vectors({op, "x"}, x);
    const LinearParams params = check_linear(op, in_features, out_features);
    check_features({op, "x"}, x, params.in_features);
    return check_packed(op, x, packed, lengths);
}

}  // namespace
}  // namespace mnv2::ops::checking

STABLE_TORCH_LIBRARY_IMPL(mnv2, CompositeExplicitAutograd, m)
{
    m.impl("check_fused_block", TORCH_BOX(&mnv2::ops::checking::fused_block));
    m.impl("check_pack_block", TORCH_BOX(&mnv2::ops::checking::pack_block));
    m.impl("check_fused_block_packed", TORCH_BOX(&mnv2::ops::checking::fused_block_packed));
    m.impl("check_stem", TORCH_BOX(&mnv2::ops::checking::stem));
    m.impl("check_pack_stem", TORCH_BOX(&mnv2::ops::checking::pack_stem));
    m.impl("check_stem_packed", TORCH_BOX(&mnv2::ops::checking::stem_packed));
    m.impl("check_head_pool", TORCH_BOX(&mnv2::ops::checking::head_pool));
    m.impl("check_pack_head_pool", TORCH_BOX(&mnv2::ops::checking::pack_head_pool));
    m.impl("check_head_pool_packed", TORCH_BOX(&mnv2::ops::checking::head_pool_packed));
    m.impl("check_linear", TORCH_BOX(&mnv2::ops::checking::linear));
    m.impl("check_pack_linear", TORCH_BOX(&mnv2::ops::checking::pack_linear));
    m.impl("check_linear_packed", TORCH_BOX(&mnv2::ops::checking::linear_packed));
}
