#include "python/cuda_selection.h"

#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "cuda/select_block.h"
#include "cuda/served.h"
#include "python/layers.h"

namespace py = pybind11;
using namespace py::literals;

namespace {

mnv2::ScalarType type_named(const std::string& dtype)
{
    if (const std::optional<mnv2::ScalarType> type = mnv2::scalar_type_named(dtype)) return *type;
    throw py::value_error("dtype: expected \"float32\", \"float16\" or \"bfloat16\", got \"" + dtype + "\"");
}

py::dict select_cuda_block(const std::string& layer, int64_t batch, int64_t height, int64_t width, const std::string& dtype,
                           int32_t multiprocessors, int32_t capability, int64_t shared_bytes)
{
    const mnv2::NetworkLayer read = one_layer(layer, batch, height, width);
    const auto* const block = std::get_if<mnv2::InvertedResidualParams>(&read.params);
    if (!block) throw py::value_error("layer: expected a block, got \"" + layer + "\"");
    if (const auto error = mnv2::find_unserved({read}, mnv2::cuda::served_options))
        throw py::value_error("layer: " + error->argument + ": " + error->reason);
    const mnv2::cuda::Gpu gpu{multiprocessors, capability, shared_bytes};
    const mnv2::cuda::BlockChoice choice = mnv2::cuda::select_block(*block, type_named(dtype), gpu);
    return py::dict("kernel"_a = mnv2::cuda::block_kernel_name(choice.kernel), "reason"_a = choice.reason,
                    "packed_bytes"_a = choice.format.packed_bytes);
}

std::vector<std::pair<std::string, std::string>> cuda_block_reasons()
{
    std::vector<std::pair<std::string, std::string>> reasons;
    for (const mnv2::cuda::BlockReason& reason : mnv2::cuda::block_reasons())
        reasons.emplace_back(mnv2::cuda::block_kernel_name(reason.kernel), reason.text);
    return reasons;
}

}  // namespace

void bind_cuda_selection(py::module_& module)
{
    module.def("select_cuda_block", &select_cuda_block, py::kw_only(), "layer"_a, "batch"_a, "height"_a, "width"_a, "dtype"_a,
               "multiprocessors"_a, "capability"_a, "shared_bytes"_a,
               "The CUDA kernel that serves a block, described by Layer's text, with weights packed for a dtype on a GPU "
               "(capability 90 is 9.0; shared_bytes are the most that a thread block can have): kernel, reason and "
               "packed_bytes. ValueError names a bad argument, RuntimeError says that the GPU has too little shared memory.");
    module.def("cuda_block_reasons", &cuda_block_reasons, "Every kernel and reason that select_cuda_block gives.");
}
