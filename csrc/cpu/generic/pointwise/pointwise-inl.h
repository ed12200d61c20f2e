// A pointwise layer, panel by panel over all pixels. Activations are blocked,
// [channels / lanes][pixels][lanes], so that a tile's pixels lie at constant displacements; weights are panels as
// core/packing.h describes them.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "core/packing.h"
#include "cpu/generic/pointwise/sums-inl.h"
#include "cpu/generic/pointwise/tiles-inl.h"
#include "cpu/simd/convert-inl.h"
#include "cpu/simd/macros.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

// The panels of this instruction set, as core/packing.h describes them.
constexpr PackLayout panel_layout = {Isa::scalar, lanes, panel_vectors, type_of<Stored>};

constexpr int64_t column_floats(int64_t depth)
{
    return pointwise_column_floats(depth, panel_layout);
}

// One panel over consecutive pixels; its NR channels are VECTORS vectors. By tiles in vector registers (registers-inl.h) or by
// matrix tiles (amx-inl.h), whichever the instruction set's file includes.
template <int VECTORS>
void pointwise_panel(const PointwiseLayer& layer, int64_t pixels, const Stored* x, const float* panel, float* y,
                     int64_t last_lanes, const Stored* residual);

// The same for a panel of two depths (two_depth-inl.h). VECTORS, an odd number, counts the vectors that two depths fill.
template <int VECTORS>
void two_depth_panel(const PointwiseLayer& layer, int64_t pixels, const Stored* x, const float* panel, float* y,
                     int64_t last_lanes, const Stored* residual);

// A panel with this number of output channels.
void panel_of_channels(const PointwiseLayer& layer, int64_t channels, int64_t pixels, const Stored* x, const float* panel,
                       float* y, const Stored* residual)
{
    const int64_t last_lanes = lanes_of_last_vector(channels, layer.epilogue);
    const bool is_single = panel_vectors == 1 || channels <= lanes;
    if constexpr (has_two_depths(1, panel_layout))
        if (has_two_depths(channels, panel_layout)) {
            if (is_single) return two_depth_panel<1>(layer, pixels, x, panel, y, last_lanes, residual);
            return two_depth_panel<2 * panel_vectors - 1>(layer, pixels, x, panel, y, last_lanes, residual);
        }
    if (is_single) return pointwise_panel<1>(layer, pixels, x, panel, y, last_lanes, residual);
    pointwise_panel<panel_vectors>(layer, pixels, x, panel, y, last_lanes, residual);
}

// Output channels [first, last) of a layer with out_channels channels; first is a multiple of panel_width. y and residual
// point to channel first.
void pointwise(const PointwiseLayer& layer, int64_t first, int64_t last, int64_t pixels, const Stored* x, const float* packed,
               float* y, const Stored* residual)
{
    const int64_t column = column_floats(layer.depth);
    const float* panel = packed + first * column;
    for (int64_t channel = first; channel < last; channel += panel_width) {
        panel_of_channels(layer, smaller(last - channel, panel_width), pixels, x, panel, y, residual);
        panel += panel_width * column;
        y += panel_vectors * layer.epilogue.y_vector;
        if (residual) residual += panel_vectors * layer.epilogue.residual_plane;
    }
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
