// The pointwise microkernel: tiles of ROWS pixels by VECTORS vectors of output channels over the whole depth. Activations are
// blocked, [channels / lanes][pixels][lanes], so that a tile's pixels lie at constant displacements; weights are panels as
// core/packing.h describes them.
#pragma once

#include <cstdint>
#include <utility>

#include "core/block.h"
#include "core/packing.h"
#include "cpu/simd/convert-inl.h"
#include "cpu/simd/macros.h"
#include "cpu/sums-inl.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

// Where a layer's results go, and what is done to them on the way.
struct Epilogue {
    Clamp clamp;
    int64_t y_pixel, y_vector;  // floats from a pixel, and from a vector of channels, to the next
    bool y_is_blocked;          // there is room for the lanes past the last channel
    int64_t residual_plane;     // floats from a vector of the residual to the next
};

MNV2_INLINE Epilogue blocked_epilogue(Activation activation, int64_t plane)
{
    return {clamp_of(activation), lanes, plane, true, 0};
}

// Channels to store of the last vector of a panel, where channels are left from the panel's first one on.
MNV2_INLINE int64_t lanes_of_last_vector(int64_t channels, const Epilogue& epilogue)
{
    const bool whole = epilogue.y_is_blocked || channels >= panel_width || channels % lanes == 0;
    return whole ? lanes : channels % lanes;
}

// Straight-line code, in which stores follow one another while the rest is still being computed: with other cases in between
// a tile took 13 cycles more.
template <bool HAS_RESIDUAL, int ROWS, int VECTORS>
MNV2_INLINE void store_tile(const Accumulators<ROWS, VECTORS>& sums, const float* scale_and_bias, const Epilogue& epilogue,
                            float* y, int64_t y_pixel, int64_t y_vector, const Stored* residual)
{
    const Vec low = splat(epilogue.clamp.low), high = splat(epilogue.clamp.high);
    MNV2_UNROLL
    for (int v = 0; v < VECTORS; ++v) {
        const Vec scale = load(scale_and_bias + v * lanes), bias = load(scale_and_bias + (VECTORS + v) * lanes);
        MNV2_UNROLL
        for (int r = 0; r < ROWS; ++r) {
            Vec result = clamp(fma(sums.at[r][v], scale, bias), low, high);
            if constexpr (HAS_RESIDUAL) result = add(result, widen(residual + v * epilogue.residual_plane + r * lanes));
            store(y + v * y_vector + r * y_pixel, result);
        }
    }
}

// y = clamp(sums * scale + bias) (+ residual), last_lanes channels of the last vector only.
template <int ROWS, int VECTORS>
MNV2_INLINE void finish_tile(const Accumulators<ROWS, VECTORS>& sums, const float* scale_and_bias, const Epilogue& epilogue,
                             float* y, int64_t last_lanes, const Stored* residual)
{
    constexpr int64_t width = VECTORS * lanes, whole = width - lanes;
    float tile[ROWS * width];
    const bool is_whole = last_lanes == lanes;
    float* to = is_whole ? y : tile;
    const int64_t to_pixel = is_whole ? epilogue.y_pixel : width, to_vector = is_whole ? epilogue.y_vector : lanes;
    if (residual)
        store_tile<true>(sums, scale_and_bias, epilogue, to, to_pixel, to_vector, residual);
    else
        store_tile<false>(sums, scale_and_bias, epilogue, to, to_pixel, to_vector, residual);
    if (is_whole) return;
    for (int r = 0; r < ROWS; ++r) {
        const float* from = tile + r * width;
        float* pixel = y + r * epilogue.y_pixel;
        for (int64_t v = 0; v < whole; v += lanes, pixel += epilogue.y_vector) store(pixel, load(from + v));
        store_first(pixel, load(from + whole), last_lanes);
    }
}

// What core/packing.h says of a panel.
constexpr int64_t column_floats(int64_t depth)
{
    return pointwise_column_floats(depth, {Isa::scalar, lanes, panel_vectors, type_of<Stored>});
}

struct PointwiseLayer {
    int64_t depth;
    int64_t x_plane;  // elements from a block of the input to the next
    Epilogue epilogue;
};

// Shares the fetching of the panel behind this one out to its first tiles.
class NextPanel {
public:
    NextPanel(int64_t depth, int64_t width, int64_t tiles)
        : begin_(column_floats(depth) * width), end_(begin_ + (is_now(fetch_ahead) ? fetched_together(depth) * width : 0))
    {
        const int64_t bursts = (end_ - begin_ + burst_floats - 1) / burst_floats;
        share_ = (bursts + tiles - 1) / tiles * burst_floats;
    }

    MNV2_INLINE Ahead share_of_next_tile()
    {
        const int64_t begin = begin_;
        begin_ = smaller(begin + share_, end_);
        return {begin, begin_};
    }

private:
    int64_t begin_, end_, share_;
};

// Tiles of consecutive pixels. The loop over them is in here: a call for each takes some 20 cycles (NOTES.md).
template <int ROWS, int VECTORS, bool IS_LONG>
void pointwise_tiles(const PointwiseLayer& layer, int64_t tiles, const Stored* x, const float* panel, float* y,
                     int64_t last_lanes, const Stored* residual, NextPanel& next)
{
    for (; tiles > 0; --tiles) {
        Accumulators<ROWS, VECTORS> sums;
        sum_tile<IS_LONG>(sums, layer.depth, layer.x_plane, x, panel + 2 * VECTORS * lanes, next.share_of_next_tile());
        finish_tile(sums, panel, layer.epilogue, y, last_lanes, residual);
        x += ROWS * lanes;
        y += ROWS * layer.epilogue.y_pixel;
        if (residual) residual += ROWS * lanes;
    }
}

using PointwiseTiles = void (*)(const PointwiseLayer&, int64_t, const Stored*, const float*, float*, int64_t, const Stored*,
                                NextPanel&);

template <int VECTORS>
struct PointwiseKernels {
    static constexpr int max_rows = tile_rows[VECTORS - 1];
    PointwiseTiles of_rows[max_rows + 1];
};

template <int VECTORS, bool IS_LONG, int... ROWS_BELOW>
constexpr PointwiseKernels<VECTORS> list_pointwise_kernels(std::integer_sequence<int, ROWS_BELOW...>)
{
    return {{nullptr, pointwise_tiles<ROWS_BELOW + 1, VECTORS, IS_LONG>...}};
}

template <int VECTORS, bool IS_LONG>
constexpr PointwiseKernels<VECTORS> pointwise_kernels =
    list_pointwise_kernels<VECTORS, IS_LONG>(std::make_integer_sequence<int, tile_rows[VECTORS - 1]>());

// Only float32 sums have a form of their own for long ones.
template <int VECTORS>
const PointwiseKernels<VECTORS>& kernels_of_depth(int64_t depth)
{
    if constexpr (type_of<Stored> == ScalarType::float32)
        if (depth >= long_depth) return pointwise_kernels<VECTORS, true>;
    return pointwise_kernels<VECTORS, false>;
}

// One panel over consecutive pixels, in tiles of nearly equal height: a short last tile would leave multiply-add chains idle.
template <int VECTORS>
void pointwise_panel(const PointwiseLayer& layer, int64_t pixels, const Stored* x, const float* panel, float* y,
                     int64_t last_lanes, const Stored* residual)
{
    const PointwiseKernels<VECTORS>& kernels = kernels_of_depth<VECTORS>(layer.depth);
    const int64_t tiles = (pixels + kernels.max_rows - 1) / kernels.max_rows;
    const int64_t rows = pixels / tiles, higher = pixels % tiles;
    NextPanel next(layer.depth, VECTORS * lanes, tiles);
    if (higher) kernels.of_rows[rows + 1](layer, higher, x, panel, y, last_lanes, residual, next);
    const int64_t done = higher * (rows + 1);
    kernels.of_rows[rows](layer, tiles - higher, x + done * lanes, panel, y + done * layer.epilogue.y_pixel, last_lanes,
                          residual ? residual + done * lanes : nullptr, next);
}

// Output channels [first, last) of a layer with out_channels channels; first is a multiple of panel_width. y and residual
// point to channel first.
void pointwise(const PointwiseLayer& layer, int64_t first, int64_t last, int64_t pixels, const Stored* x, const float* packed,
               float* y, const Stored* residual)
{
    const int64_t column = column_floats(layer.depth);
    const float* panel = packed + first * column;
    for (int64_t channel = first; channel < last; channel += panel_width) {
        const int64_t channels = last - channel;
        const int64_t last_lanes = lanes_of_last_vector(channels, layer.epilogue);
        if (channels > lanes)
            pointwise_panel<2>(layer, pixels, x, panel, y, last_lanes, residual);
        else
            pointwise_panel<1>(layer, pixels, x, panel, y, last_lanes, residual);
        panel += panel_width * column;
        y += panel_vectors * layer.epilogue.y_vector;
        if (residual) residual += panel_vectors * layer.epilogue.residual_plane;
    }
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
