#include "python/block_run.h"

#include <pybind11/stl.h>

#include <memory>
#include <optional>

#include "cpu/int8/isa/dispatch.h"
#include "cpu/int8/served.h"
#include "cpu/isa/dispatch.h"
#include "cpu/measure/block_run.h"
#include "cpu/measure/int8_block_run.h"
#include "python/layers.h"

namespace py = pybind11;
using namespace py::literals;
using mnv2::cpu::BlockRun;
using mnv2::cpu::Int8BlockRun;

namespace {

mnv2::InvertedResidualParams one_block(const std::string& layer, int64_t batch, int64_t height, int64_t width)
{
    const mnv2::NetworkLayer read = one_layer(layer, batch, height, width);
    const auto* const block = std::get_if<mnv2::InvertedResidualParams>(&read.params);
    if (!block) throw py::value_error("layer: expected a block, got \"" + layer + '"');
    return *block;
}

std::unique_ptr<BlockRun> make_block_run(const std::string& layer, int64_t batch, int64_t height, int64_t width, bool fused,
                                         int64_t channel_segments, std::optional<int64_t> l2_bytes)
{
    const mnv2::InvertedResidualParams block = one_block(layer, batch, height, width);
    require_at_least(0, "channel_segments", channel_segments);
    if (channel_segments && (!fused || !block.has_expand))
        throw py::value_error("channel_segments: expected a fused block with an expand");
    mnv2::cpu::CacheSizes caches = mnv2::cpu::cache_sizes();
    if (l2_bytes) {
        require_at_least(1, "l2_bytes", *l2_bytes);
        caches.l2 = *l2_bytes;
    }
    return std::make_unique<BlockRun>(block, mnv2::cpu::select_kernels(), caches, mnv2::cpu::BlockWay{fused, channel_segments});
}

std::unique_ptr<Int8BlockRun> make_int8_block_run(const std::string& layer, int64_t height, int64_t width)
{
    const mnv2::InvertedResidualParams block = one_block(layer, 1, height, width);
    if (const auto error = mnv2::find_unserved({{block, false}}, mnv2::cpu::int8::served_options))
        throw py::value_error("layer: " + error->argument + ": " + error->reason);
    return std::make_unique<Int8BlockRun>(block, mnv2::cpu::int8::select_kernels());
}

py::dict describe_int8_plan(const Int8BlockRun& run)
{
    return py::dict("isa"_a = run.kernels().format.name, "scratch_bytes"_a = run.scratch_bytes(),
                    "packed_bytes"_a = run.packed_bytes(), "activation_bytes"_a = run.activation_bytes());
}

template <class Run>
void count(const Run& run, int64_t cache_bytes)
{
    require_at_least(0, "cache_bytes", cache_bytes);
    count_pass(run, cache_bytes);
}

}  // namespace

void bind_block_run(py::module_& module)
{
    py::class_<BlockRun>(
        module, "BlockRun",
        "One block again and again, for measurements: float32, channels_last, one thread, on made-up values in "
        "buffers of its own. Arguments as plan's; fused=False runs the convolutions one after another, "
        "channel_segments cuts the expanded channels into that many segments instead of as planned, l2_bytes plans for "
        "another second-level cache than this machine's. ValueError names a bad argument.")
        .def(py::init(&make_block_run), "layer"_a, py::kw_only(), "batch"_a, "height"_a, "width"_a, "fused"_a = true,
             "channel_segments"_a = 0, "l2_bytes"_a = py::none())
        .def(
            "run", [](const BlockRun& run) { run.run(); }, "One pass.")
        .def(
            "count", &count<BlockRun>, "cache_bytes"_a,
            "One pass between mnv2_count_begin and mnv2_count_end: on an input, weights and a result that cache_bytes of other "
            "memory have replaced in the caches, in scratch that a pass on others has just used.")
        .def_property_readonly(
            "plan", [](const BlockRun& run) { return describe_block_plan(run.plan(), run.kernels()); },
            "As plan describes it.");
    py::class_<Int8BlockRun>(
        module, "Int8BlockRun",
        "A block of bytes, whatever arithmetic its layer's text says, on one image, blocked in and out as inside a network, by "
        "one thread. ValueError names a bad argument.")
        .def(py::init(&make_int8_block_run), "layer"_a, py::kw_only(), "height"_a, "width"_a)
        .def("count", &count<Int8BlockRun>, "cache_bytes"_a, "As BlockRun's.")
        .def_property_readonly(
            "plan", &describe_int8_plan,
            "isa, scratch_bytes, packed_bytes and activation_bytes: input and result as they lie in memory.");
    module.def("count_begin", &mnv2_count_begin,
               "Does nothing; callgrind begins a count where it sees a call of mnv2_count_begin.");
    module.def("count_end", &mnv2_count_end, "The same for the end of a count, mnv2_count_end.");
    module.def("replace_cache", &mnv2::cpu::replace_cache, "bytes"_a, "Reads memory of this size that nothing else uses.");
}
