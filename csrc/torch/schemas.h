// Every schema. Implementations are registered per device: cpu_ops.cpp, cuda_library.cpp, and Triton's in Python.
#pragma once

namespace mnv2::ops {

// clang-format off
#define MNV2_BLOCK_WEIGHTS                                                          \
    "Tensor? expand_weight, Tensor? expand_scale, Tensor? expand_bias, "            \
    "Tensor depthwise_weight, Tensor? depthwise_scale, Tensor? depthwise_bias, "    \
    "Tensor project_weight, Tensor? project_scale, Tensor? project_bias"
#define MNV2_BLOCK_OPTIONS                                                          \
    "int stride=1, int[] padding=[1, 1, 1, 1], bool residual=False, "               \
    "str activation=\"relu6\", str project_activation=\"none\""
#define MNV2_STEM_WEIGHTS "Tensor weight, Tensor? scale, Tensor? bias"
#define MNV2_STEM_OPTIONS "int stride=2, int[] padding=[1, 1, 1, 1], str activation=\"relu6\""
#define MNV2_STEM_BLOCK_WEIGHTS                                                     \
    "Tensor stem_weight, Tensor? stem_scale, Tensor? stem_bias, "                   \
    "Tensor depthwise_weight, Tensor? depthwise_scale, Tensor? depthwise_bias, "    \
    "Tensor project_weight, Tensor? project_scale, Tensor? project_bias"
#define MNV2_HEAD_WEIGHTS "Tensor weight, Tensor? scale, Tensor? bias"
#define MNV2_HEAD_OPTIONS "str activation=\"relu6\""
#define MNV2_LINEAR_WEIGHTS "Tensor weight, Tensor? bias"

template <class Library>
void define_operators(Library& m)
{
    m.def("fused_block(Tensor x, " MNV2_BLOCK_WEIGHTS ", *, " MNV2_BLOCK_OPTIONS ") -> Tensor");
    m.def("pack_block(" MNV2_BLOCK_WEIGHTS ", *, " MNV2_BLOCK_OPTIONS ") -> Tensor");
    m.def("fused_block_packed(Tensor x, Tensor packed, *, int in_channels, int expanded_channels, int out_channels, "
          "bool expand=True, " MNV2_BLOCK_OPTIONS ") -> Tensor");

    m.def("stem(Tensor x, " MNV2_STEM_WEIGHTS ", *, " MNV2_STEM_OPTIONS ") -> Tensor");
    m.def("pack_stem(" MNV2_STEM_WEIGHTS ", *, " MNV2_STEM_OPTIONS ") -> Tensor");
    m.def("stem_packed(Tensor x, Tensor packed, *, int in_channels, int out_channels, " MNV2_STEM_OPTIONS ") -> Tensor");

    m.def("head_pool(Tensor x, " MNV2_HEAD_WEIGHTS ", *, " MNV2_HEAD_OPTIONS ") -> Tensor");
    m.def("pack_head_pool(" MNV2_HEAD_WEIGHTS ", *, " MNV2_HEAD_OPTIONS ") -> Tensor");
    m.def("head_pool_packed(Tensor x, Tensor packed, *, int in_channels, int out_channels, " MNV2_HEAD_OPTIONS ") -> Tensor");

    m.def("linear(Tensor x, " MNV2_LINEAR_WEIGHTS ") -> Tensor");
    m.def("pack_linear(" MNV2_LINEAR_WEIGHTS ") -> Tensor");
    m.def("linear_packed(Tensor x, Tensor packed, *, int in_features, int out_features) -> Tensor");

    m.def("pack_network(Tensor[] layers, *, bool[] same_padding) -> Tensor");
    m.def("network(Tensor x, Tensor packed, *, int in_channels, int out_channels) -> Tensor");
    m.def("network_seconds(Tensor x, Tensor packed, *, int in_channels, int out_channels) -> Tensor");

    // Of NVIDIA's GPUs, whose packed weights the host cannot read: layers describes them, see layer_description.h.
    m.def("network_layers(Tensor x, Tensor[] packed, *, str layers) -> Tensor");
    m.def("pack_stem_block(" MNV2_STEM_BLOCK_WEIGHTS ", *, str layers) -> Tensor");

    // What an operator checks before its kernel runs, for kernels that are not written in C++: check_ops.cpp.
    m.def("check_fused_block(Tensor x, " MNV2_BLOCK_WEIGHTS ", *, " MNV2_BLOCK_OPTIONS ") -> ()");
    m.def("check_pack_block(" MNV2_BLOCK_WEIGHTS ", *, " MNV2_BLOCK_OPTIONS ") -> int");
    m.def("check_fused_block_packed(Tensor x, Tensor packed, int[] lengths, *, int in_channels, int expanded_channels, "
          "int out_channels, bool expand=True, " MNV2_BLOCK_OPTIONS ") -> int");
    m.def("check_stem(Tensor x, " MNV2_STEM_WEIGHTS ", *, " MNV2_STEM_OPTIONS ") -> ()");
    m.def("check_pack_stem(" MNV2_STEM_WEIGHTS ", *, " MNV2_STEM_OPTIONS ") -> int");
    m.def("check_stem_packed(Tensor x, Tensor packed, int[] lengths, *, int in_channels, int out_channels, " MNV2_STEM_OPTIONS
          ") -> int");
    m.def("check_head_pool(Tensor x, " MNV2_HEAD_WEIGHTS ", *, " MNV2_HEAD_OPTIONS ") -> ()");
    m.def("check_pack_head_pool(" MNV2_HEAD_WEIGHTS ", *, " MNV2_HEAD_OPTIONS ") -> int");
    m.def("check_head_pool_packed(Tensor x, Tensor packed, int[] lengths, *, int in_channels, int out_channels, "
          MNV2_HEAD_OPTIONS ") -> int");
    m.def("check_linear(Tensor x, " MNV2_LINEAR_WEIGHTS ") -> ()");
    m.def("check_pack_linear(" MNV2_LINEAR_WEIGHTS ") -> int");
    m.def("check_linear_packed(Tensor x, Tensor packed, int[] lengths, *, int in_features, int out_features) -> int");
}

// Of libmnv2_cuda: bytes of what the packers pack on its device.
template <class Library>
void define_lengths(Library& m)
{
    m.def("cuda_block_bytes(int in_channels, int expanded_channels, int out_channels, bool expand=True, " MNV2_BLOCK_OPTIONS
          ", *, str dtype) -> int");
    m.def("cuda_stem_bytes(int in_channels, int out_channels, " MNV2_STEM_OPTIONS ", *, str dtype) -> int");
    m.def("cuda_head_pool_bytes(int in_channels, int out_channels, " MNV2_HEAD_OPTIONS ", *, str dtype) -> int");
    m.def("cuda_stem_block_bytes(str layers, *, str dtype) -> int");
    m.def("cuda_linear_bytes(int in_features, int out_features, *, str dtype) -> int");
}
// clang-format on

}  // namespace mnv2::ops
