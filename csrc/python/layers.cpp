#include "python/layers.h"

#include <optional>

namespace py = pybind11;
using namespace py::literals;

void require_at_least(int64_t least, const char* name, int64_t value)
{
    if (value >= least) return;
    throw py::value_error(std::string(name) + ": expected at least " + std::to_string(least) + ", got " +
                          std::to_string(value));
}

std::vector<mnv2::Layer> read_layers(const std::string& text)
{
    std::vector<mnv2::Layer> layers;
    if (const std::optional<mnv2::LayerError> error = mnv2::read_layers(text, layers))
        throw py::value_error(error->argument + ": " + error->reason);
    return layers;
}

mnv2::NetworkLayer one_layer(const std::string& text)
{
    const std::vector<mnv2::Layer> layers = read_layers(text);
    if (layers.size() != 1) throw py::value_error("layer: expected one layer, got " + std::to_string(layers.size()));
    return mnv2::to_network_layer(layers.front());
}

mnv2::NetworkLayer one_layer(const std::string& text, int64_t batch, int64_t height, int64_t width)
{
    require_at_least(1, "batch", batch);
    std::vector<mnv2::NetworkLayer> layers{one_layer(text)};
    complete_by_image(layers, batch, height, width);
    return layers.front();
}

void complete_by_image(std::vector<mnv2::NetworkLayer>& layers, int64_t batch, int64_t height, int64_t width)
{
    if (height < 1 || width < 1 || !mnv2::set_image(layers, batch, height, width))
        throw py::value_error("expected an image that fills the window of every layer, got " + std::to_string(height) + " x " +
                              std::to_string(width));
}

py::dict describe_block_plan(const mnv2::cpu::BlockPlan& plan, const mnv2::cpu::Kernels& kernels)
{
    const mnv2::cpu::BlockCuts& cuts = plan.cuts;
    return py::dict("isa"_a = kernels.name, "strip_rows"_a = cuts.strip_rows,
                    "chunk_channels"_a = cuts.chunk_vectors * kernels.layout.vector_width,
                    "expanded_rows"_a = plan.expanded_rows, "shares_rows"_a = cuts.shares_rows,
                    "splits_channels"_a = cuts.splits_channels, "segments"_a = cuts.segments,
                    "scratch_bytes"_a = plan.scratch_bytes);
}
