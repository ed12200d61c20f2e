// What the library knows about itself, for Python: instruction sets, plans, packed sizes, build. No torch.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

#include "build_info.h"
#include "core/network.h"
#include "core/packing.h"
#include "cpu/isa/dispatch.h"
#include "cpu/measure/peak.h"
#include "cpu/plan.h"
#include "python/block_params.h"
#include "python/block_run.h"
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

int64_t packed_block_bytes(int64_t in_channels, int64_t expanded_channels, int64_t out_channels, bool expand,
                           const std::string& weights)
{
    const auto params = block_channels(in_channels, expanded_channels, out_channels, expand);
    return mnv2::packed_bytes(params, kernels_of(weights).layout);
}

template <typename Params>
int64_t packed_layer_bytes(int64_t in_channels, int64_t out_channels, const std::string& weights)
{
    require_at_least(1, "in_channels", in_channels);
    require_at_least(1, "out_channels", out_channels);
    Params params{};
    params.in_channels = in_channels;
    params.out_channels = out_channels;
    return mnv2::packed_bytes(params, kernels_of(weights).layout);
}

py::dict describe_plan(const mnv2::InvertedResidualParams& params, const mnv2::cpu::Kernels& kernels,
                       const mnv2::PackLayout& layout, int64_t threads)
{
    const mnv2::cpu::CacheSizes caches = mnv2::cpu::cache_sizes();
    const mnv2::cpu::BlockCuts cuts = mnv2::cpu::choose_cuts(params, layout, caches, threads);
    const mnv2::cpu::BlockPlan plan = mnv2::cpu::plan_block(params, layout, cuts);
    py::dict described = describe_block_plan(plan, kernels);
    described["l1_bytes"] = caches.l1;
    described["l2_bytes"] = caches.l2;
    return described;
}

py::dict describe_plan(const mnv2::StemParams& params, const mnv2::cpu::Kernels& kernels, const mnv2::PackLayout& layout,
                       int64_t threads)
{
    const mnv2::cpu::StemPlan plan = mnv2::cpu::plan_stem(params, layout, threads);
    return py::dict("isa"_a = kernels.name, "segments"_a = plan.segments, "scratch_bytes"_a = plan.scratch_bytes);
}

py::dict describe_plan(const mnv2::HeadPoolParams& params, const mnv2::cpu::Kernels& kernels, const mnv2::PackLayout& layout,
                       int64_t threads)
{
    const mnv2::cpu::HeadPoolPlan plan = mnv2::cpu::plan_head_pool(params, layout, threads);
    return py::dict("isa"_a = kernels.name, "strip_pixels"_a = plan.strip_pixels, "segments"_a = plan.segments,
                    "scratch_bytes"_a = plan.scratch_bytes);
}

py::dict describe_plan(const mnv2::LinearParams& params, const mnv2::cpu::Kernels& kernels, const mnv2::PackLayout& layout,
                       int64_t threads)
{
    const mnv2::cpu::LinearPlan plan = mnv2::cpu::plan_linear(params, layout, threads);
    return py::dict("isa"_a = kernels.name, "strip_vectors"_a = plan.strip_vectors, "segments"_a = plan.segments,
                    "scratch_bytes"_a = plan.scratch_bytes);
}

py::dict plan(int64_t batch, int64_t height, int64_t width, int64_t in_channels, int64_t expanded_channels,
              int64_t out_channels, int32_t stride, const PaddingSides& padding, const std::string& activation,
              const std::string& project_activation, bool residual, bool expand, int64_t threads)
{
    require_at_least(1, "threads", threads);
    const auto params = block_params(batch, height, width, in_channels, expanded_channels, out_channels, stride, padding,
                                     activation, project_activation, residual, expand);
    const mnv2::cpu::Kernels& kernels = mnv2::cpu::select_kernels();
    return describe_plan(params, kernels, kernels.layout, threads);
}

py::tuple sides_of(const mnv2::Padding& padding)
{
    return py::make_tuple(padding.top, padding.left, padding.bottom, padding.right);
}

// Keyword arguments of the classes of shapes.py.
py::dict describe(const mnv2::StemParams& stem)
{
    return py::dict("kind"_a = "stem", "batch"_a = stem.batch, "height"_a = stem.height, "width"_a = stem.width,
                    "in_channels"_a = stem.in_channels, "out_channels"_a = stem.out_channels, "stride"_a = stem.stride,
                    "padding"_a = sides_of(stem.padding), "activation"_a = mnv2::activation_name(stem.activation));
}

py::dict describe(const mnv2::InvertedResidualParams& block)
{
    return py::dict("kind"_a = "block", "batch"_a = block.batch, "height"_a = block.height, "width"_a = block.width,
                    "in_channels"_a = block.in_channels, "expanded_channels"_a = block.expanded_channels,
                    "out_channels"_a = block.out_channels, "stride"_a = block.stride, "padding"_a = sides_of(block.padding),
                    "activation"_a = mnv2::activation_name(block.activation),
                    "project_activation"_a = mnv2::activation_name(block.project_activation), "residual"_a = block.has_residual,
                    "expand"_a = block.has_expand);
}

py::dict describe(const mnv2::HeadPoolParams& head)
{
    return py::dict("kind"_a = "head_pool", "batch"_a = head.batch, "height"_a = head.height, "width"_a = head.width,
                    "in_channels"_a = head.in_channels, "out_channels"_a = head.out_channels,
                    "activation"_a = mnv2::activation_name(head.activation));
}

py::dict describe(const mnv2::LinearParams& linear)
{
    return py::dict("kind"_a = "linear", "batch"_a = linear.batch, "in_features"_a = linear.in_features,
                    "out_features"_a = linear.out_features);
}

// Layers of the packed network at an address, for images of this size.
std::vector<mnv2::NetworkLayer> read_layers(uintptr_t address, int64_t bytes, int64_t batch, int64_t height, int64_t width)
{
    std::vector<mnv2::NetworkLayer> layers;
    const std::string mismatch = mnv2::read_network(reinterpret_cast<const void*>(address), bytes, layers);
    if (!mismatch.empty()) throw py::value_error("packed: " + mismatch);
    if (height < 1 || width < 1 || !mnv2::set_image(layers, batch, height, width))
        throw py::value_error("expected an image that fills the window of every layer, got " + std::to_string(height) + " x " +
                              std::to_string(width));
    return layers;
}

py::list network_layers(uintptr_t address, int64_t bytes, int64_t batch, int64_t height, int64_t width)
{
    py::list described;
    for (const mnv2::NetworkLayer& layer : read_layers(address, bytes, batch, height, width))
        described.append(std::visit([](const auto& params) { return describe(params); }, layer.params));
    return described;
}

py::list network_plans(uintptr_t address, int64_t bytes, int64_t batch, int64_t height, int64_t width, int64_t threads)
{
    require_at_least(1, "threads", threads);
    py::list plans;
    for (const mnv2::NetworkLayer& layer : read_layers(address, bytes, batch, height, width)) {
        const mnv2::PackLayout layout = mnv2::packed_layout(layer.packed);
        const mnv2::cpu::Kernels& kernels = mnv2::cpu::kernels_for(layout.isa);
        plans.append(
            std::visit([&](const auto& params) { return describe_plan(params, kernels, layout, threads); }, layer.params));
    }
    return plans;
}

int64_t packed_network_bytes(const std::vector<int64_t>& layers)
{
    std::vector<mnv2::PackedLayer> parts;
    for (const int64_t bytes : layers) parts.push_back({nullptr, bytes, false});
    return mnv2::packed_network_bytes(parts);
}

int64_t packed_linear_bytes(int64_t in_features, int64_t out_features, const std::string& weights)
{
    require_at_least(1, "in_features", in_features);
    require_at_least(1, "out_features", out_features);
    return mnv2::packed_bytes(mnv2::LinearParams{0, in_features, out_features}, kernels_of(weights).layout);
}

py::list isas()
{
    py::list states;
    for (const mnv2::cpu::IsaState& isa : mnv2::cpu::isa_states()) {
        states.append(py::dict("name"_a = isa.name, "compiled"_a = isa.compiled, "supported"_a = isa.supported));
    }
    return states;
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
    module.def("packed_block_bytes", &packed_block_bytes, "in_channels"_a, "expanded_channels"_a, "out_channels"_a,
               "expand"_a = true, "weights"_a = "float32",
               "Bytes that pack_block returns for weights of that dtype and the instruction set selected for them.");
    module.def("packed_stem_bytes", &packed_layer_bytes<mnv2::StemParams>, "in_channels"_a, "out_channels"_a,
               "weights"_a = "float32", "Bytes that pack_stem returns, see packed_block_bytes.");
    module.def("packed_head_pool_bytes", &packed_layer_bytes<mnv2::HeadPoolParams>, "in_channels"_a, "out_channels"_a,
               "weights"_a = "float32", "Bytes that pack_head_pool returns, see packed_block_bytes.");
    module.def("packed_linear_bytes", &packed_linear_bytes, "in_features"_a, "out_features"_a, "weights"_a = "float32",
               "Bytes that pack_linear returns, see packed_block_bytes.");
    module.def("packed_network_bytes", &packed_network_bytes, "layers"_a,
               "Bytes that pack_network returns for layers of so many bytes.");
    module.def("network_layers", &network_layers, "address"_a, "bytes"_a, "batch"_a, "height"_a, "width"_a,
               "The layers of the packed network at an address, for images of this size: kind (stem, block, head_pool, linear) "
               "and the fields of its class in shapes.py. ValueError where the bytes are no packed network.");
    module.def("network_plans", &network_plans, "address"_a, "bytes"_a, "batch"_a, "height"_a, "width"_a, "threads"_a = 1,
               "How each of these layers is cut (see plan), with scratch_bytes, a thread's.");
    module.def(
        "plan", &plan, py::kw_only(), "batch"_a, "height"_a, "width"_a, "in_channels"_a, "expanded_channels"_a,
        "out_channels"_a, "stride"_a = 1, "padding"_a = PaddingSides{1, 1, 1, 1}, "activation"_a = "relu6",
        "project_activation"_a = "none", "residual"_a = false, "expand"_a = true, "threads"_a = 1,
        "How the selected instruction set (isa) cuts a block: strip_rows (output rows), ring_rows (expanded rows held, "
        "shared by strips where shares_rows), chunk_channels, segments (parts of an image for threads: of its channels where "
        "splits_channels, else of its rows), scratch_bytes "
        "(a thread's), and the caches it assumes. ValueError names a bad argument.");
    module.def("build_info", &build_info,
               "What was built: version, compiler, build_type, torch_target, isas, cuda, cuda_archs, cuda_compiler, and the "
               "build's summary line.");
    module.def("measure_fma_peak", &mnv2::cpu::measure_fma_peak,
               "GFLOP/s of independent float32 multiply-adds on one core with the selected instruction set, measured now.");
    bind_block_run(module);
    bind_snapshot(module);
}
