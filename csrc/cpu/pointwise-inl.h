// The pointwise microkernel: a tile of ROWS pixels by VECTORS vectors of output channels over the whole depth, and the loop
// over tiles. Activations are blocked, [channels / lanes][pixels][lanes], so that a tile's pixels lie at constant
// displacements; weights are panels as core/packing.h describes them.
#pragma once

#include <cstdint>
#include <utility>

#include "core/block.h"
#include "cpu/simd/macros.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

// From long_depth on, sums are moved to a second accumulator every sum_depth depths: the error then grows with the run's
// length, not with the depth's. Costs 3 %; without it some layers miss the accuracy promise.
constexpr int64_t long_depth = 192;
constexpr int64_t sum_depth = 96;

constexpr int panel_vectors = 2;
constexpr int panel_width = panel_vectors * lanes;

// Depths that one pass of the innermost loop unrolls: all of a block, but no more than the instruction cache likes.
constexpr int unrolled_depths = lanes < 8 ? lanes : 8;

constexpr int64_t vectors_of(int64_t channels)
{
    return (channels + lanes - 1) / lanes;
}

template <int ROWS, int VECTORS>
struct Accumulators {
    Vec at[ROWS][VECTORS];
};

template <int ROWS, int VECTORS>
MNV2_INLINE void clear(Accumulators<ROWS, VECTORS>& sums)
{
    MNV2_UNROLL
    for (int r = 0; r < ROWS; ++r) MNV2_UNROLL
    for (int v = 0; v < VECTORS; ++v) sums.at[r][v] = splat(0.0f);
}

// sums += one depth of each pixel times its weights; x points to the first pixel's depth, pixels lie x_step floats apart.
template <int X_STEP, int ROWS, int VECTORS>
MNV2_INLINE void add_depth(Accumulators<ROWS, VECTORS>& sums, const float* x, const float* weights)
{
    Vec w[VECTORS];
    MNV2_UNROLL
    for (int v = 0; v < VECTORS; ++v) w[v] = load(weights + v * lanes);
    MNV2_UNROLL
    for (int r = 0; r < ROWS; ++r) MNV2_UNROLL
    for (int v = 0; v < VECTORS; ++v) fma_broadcast(sums.at[r][v], w[v], x + r * X_STEP);
}

// The second accumulators, in memory: they are touched every sum_depth depths only.
template <int ROWS, int VECTORS>
class SecondAccumulators {
public:
    // The compiler is not to see where `at` points, or it moves part of the array to registers that the tile needs.
    MNV2_INLINE SecondAccumulators() : at_(&memory_[0][0][0]) { __asm__("" : "+r"(at_)); }

    MNV2_INLINE void take(Accumulators<ROWS, VECTORS>& sums)
    {
        if (used_) give(sums);
        MNV2_UNROLL
        for (int r = 0; r < ROWS; ++r) MNV2_UNROLL
        for (int v = 0; v < VECTORS; ++v) store(at_ + (r * VECTORS + v) * lanes, sums.at[r][v]);
        used_ = true;
        clear(sums);
    }

    MNV2_INLINE void give(Accumulators<ROWS, VECTORS>& sums) const
    {
        MNV2_UNROLL
        for (int r = 0; r < ROWS; ++r) MNV2_UNROLL
        for (int v = 0; v < VECTORS; ++v) sums.at[r][v] = add(sums.at[r][v], load(at_ + (r * VECTORS + v) * lanes));
    }

    MNV2_INLINE bool used() const { return used_; }

private:
    alignas(64) float memory_[ROWS][VECTORS][lanes];
    float* at_;
    bool used_ = false;
};

// Where a layer's results go, and what is done to them on the way.
struct Epilogue {
    Clamp clamp;
    int64_t y_pixel, y_vector;  // floats from a pixel, and from a vector of channels, to the next
    bool y_is_blocked;          // there is room for the lanes past the last channel
    int64_t residual_plane;     // floats from a block of the residual to the next
};

// Channels to store of the last vector of a panel, where channels are left from the panel's first one on.
MNV2_INLINE int64_t lanes_of_last_vector(int64_t channels, const Epilogue& epilogue)
{
    const bool whole = epilogue.y_is_blocked || channels >= panel_width || channels % lanes == 0;
    return whole ? lanes : channels % lanes;
}

// y = clamp(sums * scale + bias) (+ residual), last_lanes channels of the last vector only. Each option is decided once a
// tile, so that the rest is straight-line code.
template <int ROWS, int VECTORS>
MNV2_INLINE void finish_tile(Accumulators<ROWS, VECTORS>& sums, const float* scale_and_bias, const Epilogue& epilogue, float* y,
                             int64_t last_lanes, const float* residual)
{
    const Vec low = splat(epilogue.clamp.low), high = splat(epilogue.clamp.high);
    const int64_t y_pixel = epilogue.y_pixel, y_vector = epilogue.y_vector;
    MNV2_UNROLL
    for (int v = 0; v < VECTORS; ++v) {
        const Vec scale = load(scale_and_bias + v * lanes), bias = load(scale_and_bias + (VECTORS + v) * lanes);
        MNV2_UNROLL
        for (int r = 0; r < ROWS; ++r) sums.at[r][v] = clamp(fma(sums.at[r][v], scale, bias), low, high);
    }
    if (residual) {
        const int64_t plane = epilogue.residual_plane;
        MNV2_UNROLL
        for (int r = 0; r < ROWS; ++r) MNV2_UNROLL
        for (int v = 0; v < VECTORS; ++v) sums.at[r][v] = add(sums.at[r][v], load(residual + v * plane + r * lanes));
    }
    MNV2_UNROLL
    for (int v = 0; v + 1 < VECTORS; ++v, y += y_vector) MNV2_UNROLL
    for (int r = 0; r < ROWS; ++r) store(y + r * y_pixel, sums.at[r][v]);
    if (last_lanes == lanes) {
        MNV2_UNROLL
        for (int r = 0; r < ROWS; ++r) store(y + r * y_pixel, sums.at[r][VECTORS - 1]);
    } else {
        MNV2_UNROLL
        for (int r = 0; r < ROWS; ++r) store_first(y + r * y_pixel, sums.at[r][VECTORS - 1], last_lanes);
    }
}

struct PointwiseLayer {
    int64_t depth;
    int64_t x_plane;  // floats from a block of the input to the next
    Epilogue epilogue;
};

template <int ROWS, int VECTORS>
void pointwise_tile(const PointwiseLayer& layer, const float* x, const float* panel, float* y, int64_t last_lanes,
                    const float* residual)
{
    constexpr int width = VECTORS * lanes;
    Accumulators<ROWS, VECTORS> sums;
    SecondAccumulators<ROWS, VECTORS> second;
    clear(sums);
    const float* weights = panel + 2 * width;
    int64_t left = layer.depth;
    const int64_t run_depth = left >= long_depth ? sum_depth : left;
    for (;;) {
        int64_t run = left < run_depth ? left : run_depth;
        left -= run;
        for (; run >= lanes; run -= lanes) {
            for (int k = 0; k < lanes; k += unrolled_depths) {
                MNV2_UNROLL
                for (int u = 0; u < unrolled_depths; ++u) add_depth<lanes>(sums, x + k + u, weights + u * width);
                weights += unrolled_depths * width;
            }
            x += layer.x_plane;
        }
        for (int64_t k = 0; k < run; ++k, weights += width) add_depth<lanes>(sums, x + k, weights);
        if (!left) break;
        second.take(sums);
    }
    if (second.used()) second.give(sums);
    finish_tile(sums, panel, layer.epilogue, y, last_lanes, residual);
}

using PointwiseTile = void (*)(const PointwiseLayer&, const float*, const float*, float*, int64_t, const float*);

template <int VECTORS>
struct PointwiseTiles {
    static constexpr int max_rows = tile_rows[VECTORS - 1];
    PointwiseTile of_rows[max_rows + 1];
};

template <int VECTORS, int... ROWS_BELOW>
constexpr PointwiseTiles<VECTORS> list_pointwise_tiles(std::integer_sequence<int, ROWS_BELOW...>)
{
    return {{nullptr, pointwise_tile<ROWS_BELOW + 1, VECTORS>...}};
}

template <int VECTORS>
constexpr PointwiseTiles<VECTORS> pointwise_tiles =
    list_pointwise_tiles<VECTORS>(std::make_integer_sequence<int, tile_rows[VECTORS - 1]>());

// One panel over consecutive pixels, in tiles of nearly equal height: a short last tile would leave multiply-add chains idle.
template <int VECTORS>
void pointwise_panel(const PointwiseLayer& layer, int64_t pixels, const float* x, const float* panel, float* y,
                     int64_t last_lanes, const float* residual)
{
    constexpr const PointwiseTiles<VECTORS>& tiles = pointwise_tiles<VECTORS>;
    const int64_t count = (pixels + tiles.max_rows - 1) / tiles.max_rows;
    for (int64_t left = count; left > 0; --left) {
        const int64_t rows = (pixels + left - 1) / left;
        tiles.of_rows[rows](layer, x, panel, y, last_lanes, residual);
        pixels -= rows;
        x += rows * lanes;
        y += rows * layer.epilogue.y_pixel;
        if (residual) residual += rows * lanes;
    }
}

// Output channels [first, last) of a layer with out_channels channels; first is a multiple of panel_width. y and residual
// point to channel first.
void pointwise(const PointwiseLayer& layer, int64_t first, int64_t last, int64_t pixels, const float* x, const float* packed,
               float* y, const float* residual)
{
    const float* panel = packed + first * (layer.depth + 2);
    for (int64_t channel = first; channel < last; channel += panel_width) {
        const int64_t channels = last - channel;
        const int64_t last_lanes = lanes_of_last_vector(channels, layer.epilogue);
        if (channels > lanes)
            pointwise_panel<2>(layer, pixels, x, panel, y, last_lanes, residual);
        else
            pointwise_panel<1>(layer, pixels, x, panel, y, last_lanes, residual);
        panel += panel_width * (layer.depth + 2);
        y += panel_vectors * layer.epilogue.y_vector;
        if (residual) residual += panel_vectors * layer.epilogue.residual_plane;
    }
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
