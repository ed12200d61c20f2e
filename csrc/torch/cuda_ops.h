// The operators of libmnv2_cuda, for the library that registers them: cuda_library.cpp.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "torch/operators.h"

namespace mnv2::ops {

struct CudaBackend {
    static Tensor pack(const BlockArguments& from, const InvertedResidualParams& params, std::optional<ScalarType> x);
    static Tensor run(const char* op, InvertedResidualParams params, const Tensor& x, const InputView& view,
                      const Tensor& packed);

    static Tensor pack(const char* op, const StemParams& params, const Tensor& weight, const OptionalTensor& scale,
                       const OptionalTensor& bias, std::optional<ScalarType> x);
    static Tensor run(const char* op, StemParams params, const Tensor& x, const InputView& view, const Tensor& packed);

    static Tensor pack(const char* op, const HeadPoolParams& params, const Tensor& weight, const OptionalTensor& scale,
                       const OptionalTensor& bias, std::optional<ScalarType> x);
    static Tensor run(const char* op, HeadPoolParams params, const Tensor& x, const InputView& view, const Tensor& packed);

    static Tensor pack(const char* op, const LinearParams& params, const Tensor& weight, const OptionalTensor& bias,
                       std::optional<ScalarType> x);
    static Tensor run(const char* op, LinearParams params, const Tensor& x, const InputView& view, const Tensor& packed);
};

using CudaOperators = Operators<CudaBackend>;

// A whole network, from images (N, C, H, W) to (N, channels of the last layer). layers: torch/layer_description.h. packed: the
// weights of each as its packer gave them; of a joined stem and block, pack_stem_block's.
Tensor network_layers(const Tensor& x, const std::vector<Tensor>& packed, const std::string& layers);

// layers: the joined stem and its block.
Tensor pack_stem_block(const Tensor& stem_weight, const OptionalTensor& stem_scale, const OptionalTensor& stem_bias,
                       const Tensor& depthwise_weight, const OptionalTensor& depthwise_scale,
                       const OptionalTensor& depthwise_bias, const Tensor& project_weight, const OptionalTensor& project_scale,
                       const OptionalTensor& project_bias, const std::string& layers);

template <class Library>
void implement_cuda_operators(Library& m)
{
    CudaOperators::implement(m);
    m.impl("network_layers", TORCH_BOX(&network_layers));
    m.impl("pack_stem_block", TORCH_BOX(&pack_stem_block));
}

// Bytes of packed weights for the fakes of the packers, by the arguments of the packers.
int64_t cuda_block_bytes(int64_t in_channels, int64_t expanded_channels, int64_t out_channels, bool expand, int64_t stride,
                         const Integers& padding, bool residual, const std::string& activation,
                         const std::string& project_activation, const std::string& dtype);
int64_t cuda_stem_bytes(int64_t in_channels, int64_t out_channels, int64_t stride, const Integers& padding,
                        const std::string& activation, const std::string& dtype);
int64_t cuda_head_pool_bytes(int64_t in_channels, int64_t out_channels, const std::string& activation,
                             const std::string& dtype);
int64_t cuda_stem_block_bytes(const std::string& layers, const std::string& dtype);  // 0: no kernel computes both
int64_t cuda_linear_bytes(int64_t in_features, int64_t out_features, const std::string& dtype);

template <class Library>
void implement_lengths(Library& m)
{
    m.impl("cuda_block_bytes", TORCH_BOX(&cuda_block_bytes));
    m.impl("cuda_stem_bytes", TORCH_BOX(&cuda_stem_bytes));
    m.impl("cuda_head_pool_bytes", TORCH_BOX(&cuda_head_pool_bytes));
    m.impl("cuda_stem_block_bytes", TORCH_BOX(&cuda_stem_block_bytes));
    m.impl("cuda_linear_bytes", TORCH_BOX(&cuda_linear_bytes));
}

}  // namespace mnv2::ops
