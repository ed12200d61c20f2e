// What the library knows about itself, for Python: instruction sets, plans, packed sizes, build. No torch.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <iterator>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

#include "build_info.h"
#include "core/network.h"
#include "core/packing.h"
#include "cpu/int8/isa/dispatch.h"
#include "cpu/int8/packed_chain.h"
#include "cpu/isa/dispatch.h"
#include "cpu/measure/peak.h"
#include "cpu/plan.h"
#include "python/block_run.h"
#include "python/cuda_selection.h"
#include "python/layers.h"
#include "python/snapshot.h"

namespace py = pybind11;
using namespace py::literals;

namespace {

std::vector<std::string> split(const std::string& list)
{
    std::vector<std::string> parts;
    std::istringstream stream(list);
    for (std::string part; std::getline(stream, part, ';');) parts.push_back(part);
    return parts;
}

// The kernels for weights of a named type.
const mnv2::cpu::Kernels& kernels_of(const std::string& weights)
{
    const std::optional<mnv2::ScalarType> type = mnv2::scalar_type_named(weights);
    if (!type) throw py::value_error("weights: expected float32, float16 or bfloat16, got " + weights);
    return mnv2::cpu::select_kernels(*type);
}

int64_t packed_int8_bytes(const std::vector<mnv2::Layer>& layers)
{
    std::vector<mnv2::NetworkLayer> placed;
    std::transform(layers.begin(), layers.end(), std::back_inserter(placed), mnv2::to_network_layer);
    return mnv2::cpu::int8::place_layers(placed, mnv2::cpu::int8::select_kernels().format);
}

int64_t packed_bytes(const std::string& text, const std::string& weights)
{
    const std::vector<mnv2::Layer> layers = read_layers(text);
    if (!layers.empty() && layers.front().arithmetic == mnv2::Arithmetic::int8) return packed_int8_bytes(layers);
    const mnv2::PackLayout& layout = kernels_of(weights).layout;
    std::vector<mnv2::PackedLayer> parts;
    for (const mnv2::Layer& layer : layers) {
        const auto bytes = [&](const auto& params) { return mnv2::packed_bytes(params, layout); };
        parts.push_back({nullptr, std::visit(bytes, mnv2::to_network_layer(layer).params), false});
    }
    return mnv2::packed_network_bytes(parts);
}

py::dict describe_plan(const mnv2::InvertedResidualParams& params, const mnv2::cpu::Kernels& kernels, int64_t threads)
{
    const mnv2::cpu::CacheSizes caches = mnv2::cpu::cache_sizes();
    py::dict described = describe_block_plan(mnv2::cpu::plan_layer(params, kernels.layout, threads), kernels);
    described["l1_bytes"] = caches.l1;
    described["l2_bytes"] = caches.l2;
    return described;
}

py::dict describe_plan(const mnv2::StemParams& params, const mnv2::cpu::Kernels& kernels, int64_t threads)
{
    const mnv2::cpu::StemPlan plan = mnv2::cpu::plan_layer(params, kernels.layout, threads);
    return py::dict("isa"_a = kernels.name, "segments"_a = plan.segments, "scratch_bytes"_a = plan.scratch_bytes);
}

py::dict describe_plan(const mnv2::HeadPoolParams& params, const mnv2::cpu::Kernels& kernels, int64_t threads)
{
    const mnv2::cpu::HeadPoolPlan plan = mnv2::cpu::plan_layer(params, kernels.layout, threads);
    return py::dict("isa"_a = kernels.name, "strip_pixels"_a = plan.strip_pixels, "segments"_a = plan.segments,
                    "scratch_bytes"_a = plan.scratch_bytes);
}

py::dict describe_plan(const mnv2::LinearParams& params, const mnv2::cpu::Kernels& kernels, int64_t threads)
{
    const mnv2::cpu::LinearPlan plan = mnv2::cpu::plan_layer(params, kernels.layout, threads);
    return py::dict("isa"_a = kernels.name, "strip_vectors"_a = plan.strip_vectors, "segments"_a = plan.segments,
                    "scratch_bytes"_a = plan.scratch_bytes);
}

py::dict plan(const std::string& layer, int64_t batch, int64_t height, int64_t width, int64_t threads)
{
    require_at_least(1, "threads", threads);
    const mnv2::cpu::Kernels& kernels = mnv2::cpu::select_kernels();
    const auto describe = [&](const auto& params) { return describe_plan(params, kernels, threads); };
    return std::visit(describe, one_layer(layer, batch, height, width).params);
}

// Layers of the packed network at an address.
std::vector<mnv2::NetworkLayer> read_network(uintptr_t address, int64_t bytes)
{
    std::vector<mnv2::NetworkLayer> layers;
    const std::string mismatch = mnv2::read_network(reinterpret_cast<const void*>(address), bytes, layers);
    if (!mismatch.empty()) throw py::value_error("packed: " + mismatch);
    return layers;
}

py::tuple activation_names()
{
    py::list names;
    for (const mnv2::ActivationEntry& entry : mnv2::activation_table) names.append(entry.name);
    return names;
}

py::tuple gate_activation_names()
{
    py::list names;
    for (const char* name : mnv2::gate_activation_names) names.append(name);
    return names;
}

py::list network_plans(uintptr_t address, int64_t bytes, int64_t batch, int64_t height, int64_t width, int64_t threads)
{
    require_at_least(1, "threads", threads);
    py::list plans;
    std::vector<mnv2::NetworkLayer> layers = read_network(address, bytes);
    complete_by_image(layers, batch, height, width);
    const mnv2::cpu::Kernels& kernels = mnv2::cpu::kernels_for(mnv2::packed_isa(reinterpret_cast<const void*>(address)));
    const auto describe = [&](const auto& params) { return describe_plan(params, kernels, threads); };
    for (const mnv2::NetworkLayer& layer : layers) plans.append(std::visit(describe, layer.params));
    return plans;
}

py::list described(const std::vector<mnv2::cpu::IsaState>& isas)
{
    py::list states;
    for (const mnv2::cpu::IsaState& isa : isas)
        states.append(py::dict("name"_a = isa.name, "compiled"_a = isa.compiled, "supported"_a = isa.supported));
    return states;
}

py::list isas()
{
    return described(mnv2::cpu::isa_states());
}

py::list int8_isas()
{
    return described(mnv2::cpu::int8::isa_states());
}

py::dict build_info()
{
    namespace info = mnv2::build_info;
    const std::vector<std::string> cuda_archs = split(info::cuda_archs);
    return py::dict("version"_a = info::version, "compiler"_a = info::compiler, "build_type"_a = info::build_type,
                    "torch_target"_a = info::torch_target, "isas"_a = split(info::isas), "cuda"_a = !cuda_archs.empty(),
                    "cuda_archs"_a = cuda_archs, "cuda_compiler"_a = info::cuda_compiler, "summary"_a = info::summary);
}

}  // namespace

PYBIND11_MODULE(_native, module)
{
    module.doc() = "Instruction sets, plans, packed sizes and build of the CPU kernels; imports no torch.";

    module.def("isas", &isas,
               "Every instruction set known for this architecture, best first: name, compiled (in this build), supported (by "
               "this processor).");
    module.def(
        "selected_isa", [](const std::string& weights) { return kernels_of(weights).name; }, "weights"_a = "float32",
        "Name of the instruction set that packing uses now for weights of that dtype; RuntimeError where MNV2_FORCE_ISA names "
        "one that cannot run.");
    module.def("packed_bytes", &packed_bytes, "layers"_a, "weights"_a = "float32",
               "Bytes that mnv2::pack returns for layers (their text, see layer.py), for weights of that dtype and the "
               "instruction set selected for them.");
    module.def(
        "selected_int8_isa", [] { return mnv2::cpu::int8::select_kernels().format.name; },
        "Name of the instruction set that packing of int8 layers uses now; RuntimeError as for selected_isa.");
    module.def("int8_isas", &int8_isas, "The same as isas, of those that int8 layers know.");
    module.def("activation_names", &activation_names, "What an activation may be.");
    module.def("gate_activation_names", &gate_activation_names, "What the activation may be that a gate multiplies with.");
    module.def(
        "canonical_layers", [](const std::string& layers) { return mnv2::text_of(read_layers(layers)); }, "layers"_a,
        "Layers read from their text and written again. ValueError names what is no layer.");
    module.def(
        "network_plans", &network_plans, "address"_a, "bytes"_a, "batch"_a, "height"_a, "width"_a, "threads"_a = 1,
        "How each of the packed layers at an address is cut (see plan), by the instruction set that they are packed for. "
        "ValueError where the bytes are none, or an image of this size does not fill the window of every layer.");
    module.def(
        "plan", &plan, "layer"_a, py::kw_only(), "batch"_a, "height"_a, "width"_a, "threads"_a = 1,
        "How the selected instruction set (isa) cuts a layer (its text, see layer.py) for images of this size: segments, the "
        "parts of an image for threads, and scratch_bytes, a thread's. Of a block, strip_rows (output rows), expanded_rows "
        "(expanded rows held, shared by strips where shares_rows), chunk_channels, and the caches it assumes; segments are of "
        "its channels where splits_channels, else of its rows. ValueError names a bad argument.");
    module.def("build_info", &build_info,
               "What was built: version, compiler, build_type, torch_target, isas, cuda, cuda_archs, cuda_compiler, and the "
               "build's summary line.");
    module.def("measure_fma_peak", &mnv2::cpu::measure_fma_peak,
               "GFLOP/s of independent float32 multiply-adds on one core with the selected instruction set, measured now.");
    module.def(
        "measure_dot_peak", &mnv2::cpu::measure_dot_peak,
        "GOP/s of products of bytes added up, two operations each, on one core with the instruction set selected for int8.");
    bind_block_run(module);
    bind_cuda_selection(module);
    bind_snapshot(module);
}
