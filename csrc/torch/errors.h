// Errors that name the operator, the argument, what was expected and what came.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

namespace mnv2::ops {

struct Argument {
    const char* op;
    std::string name;
};

// std::runtime_error rather than STD_TORCH_CHECK, whose message ends with a source file and line: torch hands what() to
// Python as it is.
[[noreturn]] inline void refuse(const Argument& argument, const std::string& reason)
{
    throw std::runtime_error(std::string("mnv2::") + argument.op + ": " + argument.name + ": " + reason);
}

[[noreturn]] inline void refuse(const Argument& argument, const std::string& expected, const std::string& got)
{
    refuse(argument, "expected " + expected + ", got " + got);
}

template <typename Range>
std::string tuple_text(const Range& values)
{
    std::string text = "(";
    for (const auto& value : values) {
        if (text.size() > 1) text += ", ";
        text += std::to_string(value);
    }
    return text + (values.size() == 1 ? ",)" : ")");
}

inline std::string shape_text(const torch::stable::Tensor& tensor)
{
    return tuple_text(tensor.sizes());
}

// Torch's own number of a dtype. Tensor::scalar_type() would throw on dtypes younger than the ABI that we target.
inline int32_t dtype_of(const torch::stable::Tensor& tensor)
{
    int32_t dtype = 0;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(tensor.get(), &dtype));
    return dtype;
}

inline std::string dtype_text(int32_t dtype)
{
    static const std::array names{
        std::pair{aoti_torch_dtype_float16(), "float16"},     std::pair{aoti_torch_dtype_bfloat16(), "bfloat16"},
        std::pair{aoti_torch_dtype_float32(), "float32"},     std::pair{aoti_torch_dtype_float64(), "float64"},
        std::pair{aoti_torch_dtype_bool(), "bool"},           std::pair{aoti_torch_dtype_uint8(), "uint8"},
        std::pair{aoti_torch_dtype_uint16(), "uint16"},       std::pair{aoti_torch_dtype_uint32(), "uint32"},
        std::pair{aoti_torch_dtype_uint64(), "uint64"},       std::pair{aoti_torch_dtype_int8(), "int8"},
        std::pair{aoti_torch_dtype_int16(), "int16"},         std::pair{aoti_torch_dtype_int32(), "int32"},
        std::pair{aoti_torch_dtype_int64(), "int64"},         std::pair{aoti_torch_dtype_complex32(), "complex32"},
        std::pair{aoti_torch_dtype_complex64(), "complex64"}, std::pair{aoti_torch_dtype_complex128(), "complex128"},
    };
    for (const auto& [number, name] : names) {
        if (number == dtype) return name;
    }
    return "another dtype";
}

// A device as torch numbers it.
struct Device {
    int32_t type, index;

    bool operator==(const Device& other) const = default;
};

inline Device cpu_device()
{
    return {aoti_torch_device_type_cpu(), -1};
}

inline Device device_of(const torch::stable::Tensor& tensor)
{
    int32_t type = 0;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(tensor.get(), &type));
    return type == aoti_torch_device_type_cpu() ? cpu_device() : Device{type, tensor.get_device_index()};
}

inline std::string device_text(const Device& device)
{
    if (device.type == aoti_torch_device_type_cpu()) return "cpu";
    if (device.type == aoti_torch_device_type_meta()) return "meta";
    const std::string index = std::to_string(device.index);
    return (device.type == aoti_torch_device_type_cuda() ? "cuda:" : "device:") + index;
}

}  // namespace mnv2::ops
