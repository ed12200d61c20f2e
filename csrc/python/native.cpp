// What the library knows about itself, for Python: instruction sets, plans, packed sizes, build. No torch.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "build_info.h"
#include "core/packing.h"
#include "cpu/dispatch.h"
#include "cpu/peak.h"
#include "cpu/plan.h"
#include "python/snapshot.h"

namespace py = pybind11;
using namespace py::literals;

namespace {

using PaddingSides = std::array<int32_t, 4>;  // top, left, bottom, right

std::vector<std::string> split(const std::string& list)
{
    std::vector<std::string> parts;
    std::istringstream stream(list);
    for (std::string part; std::getline(stream, part, ';');) parts.push_back(part);
    return parts;
}

void require_at_least(int64_t least, const char* name, int64_t value)
{
    if (value >= least) return;
    throw py::value_error(std::string(name) + ": expected at least " + std::to_string(least) + ", got " +
                          std::to_string(value));
}

mnv2::Activation activation_from(const char* name, const std::string& value)
{
    if (const std::optional<mnv2::Activation> activation = mnv2::activation_named(value)) return *activation;
    throw py::value_error(std::string(name) + ": expected " + mnv2::expected_activations + ", got \"" + value + "\"");
}

mnv2::InvertedResidualParams block_channels(int64_t in_channels, int64_t expanded_channels, int64_t out_channels, bool expand)
{
    require_at_least(1, "in_channels", in_channels);
    require_at_least(1, "expanded_channels", expanded_channels);
    require_at_least(1, "out_channels", out_channels);
    if (!expand && expanded_channels != in_channels) {
        throw py::value_error("expanded_channels: expected in_channels without expand");
    }
    mnv2::InvertedResidualParams params{};
    params.in_channels = in_channels;
    params.expanded_channels = expanded_channels;
    params.out_channels = out_channels;
    params.has_expand = expand;
    return params;
}

int64_t packed_block_bytes(int64_t in_channels, int64_t expanded_channels, int64_t out_channels, bool expand)
{
    const auto params = block_channels(in_channels, expanded_channels, out_channels, expand);
    return mnv2::packed_bytes(params, mnv2::cpu::select_kernels().layout);
}

template <typename Params>
int64_t packed_layer_bytes(int64_t in_channels, int64_t out_channels)
{
    require_at_least(1, "in_channels", in_channels);
    require_at_least(1, "out_channels", out_channels);
    Params params{};
    params.in_channels = in_channels;
    params.out_channels = out_channels;
    return mnv2::packed_bytes(params, mnv2::cpu::select_kernels().layout);
}

py::dict plan(int64_t batch, int64_t height, int64_t width, int64_t in_channels, int64_t expanded_channels,
              int64_t out_channels, int32_t stride, PaddingSides padding, const std::string& activation,
              const std::string& project_activation, bool residual, bool expand, int64_t threads)
{
    auto params = block_channels(in_channels, expanded_channels, out_channels, expand);
    params.batch = batch;
    params.height = height;
    params.width = width;
    params.stride = stride;
    params.padding = {padding[0], padding[1], padding[2], padding[3]};
    params.activation = activation_from("activation", activation);
    params.project_activation = activation_from("project_activation", project_activation);
    params.has_residual = residual;

    require_at_least(1, "threads", threads);
    require_at_least(1, "batch", batch);
    if (stride != 1 && stride != 2) throw py::value_error("stride: expected 1 or 2, got " + std::to_string(stride));
    for (const int32_t side : padding) {
        if (side != 0 && side != 1) throw py::value_error("padding: expected 0 or 1, got " + std::to_string(side));
    }
    require_at_least(1, "output height", params.out_height());
    require_at_least(1, "output width", params.out_width());

    const mnv2::cpu::Kernels& kernels = mnv2::cpu::select_kernels();
    const mnv2::cpu::CacheSizes caches = mnv2::cpu::cache_sizes();
    const mnv2::cpu::BlockCuts cuts = mnv2::cpu::choose_cuts(params, kernels.layout, caches, threads);
    const mnv2::cpu::BlockPlan plan = mnv2::cpu::plan_block(params, kernels.layout, cuts);
    return py::dict("isa"_a = kernels.name, "l1_bytes"_a = caches.l1, "l2_bytes"_a = caches.l2,
                    "strip_rows"_a = cuts.strip_rows, "chunk_channels"_a = cuts.chunk_blocks * kernels.layout.vector_width,
                    "ring_rows"_a = plan.ring_rows, "shares_rows"_a = cuts.shares_rows, "segments"_a = cuts.segments,
                    "scratch_bytes"_a = plan.scratch_bytes);
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
        "selected_isa", [] { return mnv2::cpu::select_kernels().name; },
        "Name of the instruction set that packing uses now; RuntimeError where MNV2_FORCE_ISA names one that cannot run.");
    module.def("packed_block_bytes", &packed_block_bytes, "in_channels"_a, "expanded_channels"_a, "out_channels"_a,
               "expand"_a = true, "Bytes that pack_block returns for the selected instruction set.");
    module.def("packed_stem_bytes", &packed_layer_bytes<mnv2::StemParams>, "in_channels"_a, "out_channels"_a,
               "Bytes that pack_stem returns for the selected instruction set.");
    module.def("packed_head_pool_bytes", &packed_layer_bytes<mnv2::HeadPoolParams>, "in_channels"_a, "out_channels"_a,
               "Bytes that pack_head_pool returns for the selected instruction set.");
    module.def("plan", &plan, py::kw_only(), "batch"_a, "height"_a, "width"_a, "in_channels"_a, "expanded_channels"_a,
               "out_channels"_a, "stride"_a = 1, "padding"_a = PaddingSides{1, 1, 1, 1}, "activation"_a = "relu6",
               "project_activation"_a = "none", "residual"_a = false, "expand"_a = true, "threads"_a = 1,
               "How the selected instruction set (isa) cuts a block: strip_rows (output rows), ring_rows (expanded rows held, "
               "shared by strips where shares_rows), chunk_channels, segments (parts of an image for threads), scratch_bytes "
               "(a thread's), and the caches it assumes. ValueError names a bad argument.");
    module.def("build_info", &build_info,
               "What was built: version, compiler, build_type, torch_target, isas, cuda, cuda_archs, cuda_compiler, and the "
               "build's summary line.");
    module.def("measure_fma_peak", &mnv2::cpu::measure_fma_peak,
               "GFLOP/s of independent float32 multiply-adds on one core with the selected instruction set, measured now.");
    bind_snapshot(module);
}
