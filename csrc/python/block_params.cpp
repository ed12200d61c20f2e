#include "python/block_params.h"

#include <optional>

namespace py = pybind11;
using namespace py::literals;

namespace {

mnv2::Activation activation_from(const char* name, const std::string& value)
{
    if (const std::optional<mnv2::Activation> activation = mnv2::activation_named(value)) return *activation;
    throw py::value_error(std::string(name) + ": expected " + mnv2::expected_activations + ", got \"" + value + "\"");
}

}  // namespace

void require_at_least(int64_t least, const char* name, int64_t value)
{
    if (value >= least) return;
    throw py::value_error(std::string(name) + ": expected at least " + std::to_string(least) + ", got " +
                          std::to_string(value));
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

mnv2::InvertedResidualParams block_params(int64_t batch, int64_t height, int64_t width, int64_t in_channels,
                                          int64_t expanded_channels, int64_t out_channels, int32_t stride,
                                          const PaddingSides& padding, const std::string& activation,
                                          const std::string& project_activation, bool residual, bool expand)
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
    if (residual && !mnv2::allows_residual(params))
        throw py::value_error("residual: expected stride 1, padding (1, 1, 1, 1) and in_channels == out_channels");

    require_at_least(1, "batch", batch);
    if (stride != 1 && stride != 2) throw py::value_error("stride: expected 1 or 2, got " + std::to_string(stride));
    for (const int32_t side : padding) {
        if (side != 0 && side != 1) throw py::value_error("padding: expected 0 or 1, got " + std::to_string(side));
    }
    require_at_least(1, "output height", params.out_height());
    require_at_least(1, "output width", params.out_width());
    return params;
}

py::dict describe_block_plan(const mnv2::cpu::BlockPlan& plan, const mnv2::cpu::Kernels& kernels)
{
    const mnv2::cpu::BlockCuts& cuts = plan.cuts;
    return py::dict("isa"_a = kernels.name, "strip_rows"_a = cuts.strip_rows,
                    "chunk_channels"_a = cuts.chunk_vectors * kernels.layout.vector_width, "ring_rows"_a = plan.expanded_rows,
                    "shares_rows"_a = cuts.shares_rows, "splits_channels"_a = cuts.splits_channels,
                    "segments"_a = cuts.segments, "scratch_bytes"_a = plan.scratch_bytes);
}
