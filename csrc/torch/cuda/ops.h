// The operators of libmnv2_cuda, for the library that registers them: cuda_library.cpp.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "torch/cuda/plan.h"
#include "torch/operators.h"

namespace mnv2::ops {

struct CudaBackend {
    using Plan = CudaPlan;
    static constexpr bool reads_portable = false;

    static Device device(const Tensor& tensor) { return device_of(tensor); }

    static Tensor pack(const char* op, const Layers& layers, const std::vector<LayerArguments>& arguments,
                       std::optional<ScalarType> x);
    static Tensor run(const char* op, const Prepared<CudaPlan>& call, const Tensor& x, const Tensor& packed);
    [[noreturn]] static Tensor pack_int8(const char* op, const Layers&, const OptionalTensors&) { refuse_int8(op); }
    [[noreturn]] static Tensor run_int8(const char* op, const std::string&, const Tensor&, const Tensor&) { refuse_int8(op); }
};

// Bytes of packed weights, for the fake of pack. dtype: what all weights have in common.
int64_t cuda_packed_bytes(const std::string& layers, const std::string& dtype);

template <class Library>
void implement_cuda_operators(Library& m)
{
    Operators<CudaBackend>::implement(m);
}

template <class Library>
void implement_lengths(Library& m)
{
    m.impl("cuda_packed_bytes", TORCH_BOX(&cuda_packed_bytes));
}

}  // namespace mnv2::ops
