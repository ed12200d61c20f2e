// Every schema. Implementations are registered per device: cpu_ops.cpp, cuda_library.cpp, and Triton's in Python.
#pragma once

namespace mnv2::ops {

// clang-format off
#define MNV2_BLOCK_WEIGHTS                                                          \
    "Tensor? expand_weight, Tensor? expand_scale, Tensor? expand_bias, "            \
    "Tensor depthwise_weight, Tensor? depthwise_scale, Tensor? depthwise_bias, "    \
    "Tensor project_weight, Tensor? project_scale, Tensor? project_bias, "          \
    "Tensor? squeeze_weight=None, Tensor? squeeze_bias=None, "                      \
    "Tensor? excite_weight=None, Tensor? excite_bias=None"
#define MNV2_BLOCK_OPTIONS                                                          \
    "int stride=1, int[] padding=[1, 1, 1, 1], bool residual=False, "               \
    "str activation=\"relu6\", str project_activation=\"none\", "                    \
    "str? depthwise_activation=None, str squeeze_activation=\"relu\", "             \
    "str excite_activation=\"sigmoid\""
#define MNV2_STEM_WEIGHTS "Tensor weight, Tensor? scale, Tensor? bias"
#define MNV2_STEM_OPTIONS "int stride=2, int[] padding=[1, 1, 1, 1], str activation=\"relu6\""
#define MNV2_HEAD_WEIGHTS "Tensor weight, Tensor? scale, Tensor? bias"
#define MNV2_HEAD_OPTIONS "str activation=\"relu6\""
#define MNV2_LINEAR_WEIGHTS "Tensor weight, Tensor? bias"
#define MNV2_LINEAR_OPTIONS "str activation=\"none\""

template <class Library>
void define_operators(Library& m)
{
    m.def("fused_block(Tensor x, " MNV2_BLOCK_WEIGHTS ", *, " MNV2_BLOCK_OPTIONS ") -> Tensor");
    m.def("stem(Tensor x, " MNV2_STEM_WEIGHTS ", *, " MNV2_STEM_OPTIONS ") -> Tensor");
    m.def("head_pool(Tensor x, " MNV2_HEAD_WEIGHTS ", *, " MNV2_HEAD_OPTIONS ") -> Tensor");
    m.def("linear(Tensor x, " MNV2_LINEAR_WEIGHTS ", *, " MNV2_LINEAR_OPTIONS ") -> Tensor");

    // A layer or a chain of layers; layers is their text, see core/layer.h. weights: those of each layer as in its operator
    // above, one layer after the other; those of layers with arithmetic=int8 as in int8/ops.h, on bytes, on the CPU.
    // portable: for any machine's CPU, where run packs it.
    m.def("pack(Tensor?[] weights, *, str layers, bool portable=False) -> Tensor");
    m.def("run(Tensor x, Tensor packed, *, str layers) -> Tensor");
    m.def("run_seconds(Tensor x, Tensor packed, *, str layers) -> Tensor");

    // What an operator checks before its kernel runs, for kernels that are not written in C++: check_ops.cpp.
    m.def("check_pack(Tensor?[] weights, *, str layers, Tensor? x=None, str op=\"pack\") -> int");
    m.def("check_run(Tensor x, Tensor packed, int[] lengths, *, str layers) -> int");
}

// Only libmnv2_cuda has this: the bytes of what pack packs on its device.
template <class Library>
void define_lengths(Library& m)
{
    m.def("cuda_packed_bytes(str layers, *, str dtype) -> int");
}
// clang-format on

}  // namespace mnv2::ops
