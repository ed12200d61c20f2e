// What all tiles of pointwise layers have in common: the layer, and how a tile's sums become results.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "cpu/generic/curves-inl.h"
#include "cpu/generic/pointwise/sums-inl.h"
#include "cpu/isa/fetch_ahead.h"
#include "cpu/simd/convert-inl.h"
#include "cpu/simd/macros.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

// What is done to a layer's sums, and how its results lie in memory.
struct Epilogue {
    Clamp clamp;
    int64_t y_pixel, y_vector;  // floats from a pixel, and from a vector of channels, to the next
    bool y_is_blocked;          // there is room for the lanes past the last channel
    int64_t residual_plane;     // floats from a vector of the residual to the next
    Curve curve;                // behind the clamp
};

MNV2_INLINE Epilogue blocked_epilogue(Activation activation, int64_t plane)
{
    return {clamp_of(activation), lanes, plane, true, 0, curve_of(activation)};
}

// Channels to store of a panel's last vector; behind a curve, `lanes` more than that, so that a tile's end asks one question
// for both of what is rare. channels: the layer's from the panel's first one on.
MNV2_INLINE int64_t lanes_of_last_vector(int64_t channels, const Epilogue& epilogue)
{
    const bool whole = epilogue.y_is_blocked || channels >= panel_width || channels % lanes == 0;
    const int64_t stored = whole ? lanes : channels % lanes;
    return epilogue.curve == Curve::none ? stored : stored + lanes;
}

constexpr bool is_curved(int64_t last_lanes)
{
    return last_lanes > lanes;
}

// Straight-line code, in which stores follow one another while the others are still being computed: with branches in between a
// tile took 13 cycles more.
template <bool HAS_RESIDUAL, int MR, int VECTORS>
MNV2_INLINE void store_tile(const Accumulators<MR, VECTORS>& sums, const float* scale_and_bias, const Epilogue& epilogue,
                            float* y, int64_t y_pixel, int64_t y_vector, const Stored* residual)
{
    const Vec low = splat(epilogue.clamp.low), high = splat(epilogue.clamp.high);
    MNV2_UNROLL
    for (int v = 0; v < VECTORS; ++v) {
        const Vec scale = load(scale_and_bias + v * lanes), bias = load(scale_and_bias + (VECTORS + v) * lanes);
        MNV2_UNROLL
        for (int r = 0; r < MR; ++r) {
            Vec result = clamp(fma(sums.at[r][v], scale, bias), low, high);
            if constexpr (HAS_RESIDUAL) result = add(result, widen(residual + v * epilogue.residual_plane + r * lanes));
            store(y + v * y_vector + r * y_pixel, result);
        }
    }
}

// A tile's values on their way from one place to the other.
struct TileValues {
    const float* from;  // vectors of a pixel, then of the next
    int64_t pixels, vectors;
    float* y;
    int64_t last_lanes;  // channels of the last vector
    const Stored* residual;
};

// y = curve(from) (+ residual), in a loop: what a curve takes for each of a tile's vectors would be too much code written out.
// The pixels are innermost, so that the curve's constants are loaded once for all of them.
template <Curve CURVE>
MNV2_INLINE void store_curved_values(const TileValues& values, const Epilogue& epilogue)
{
    const int64_t y_pixel = epilogue.y_pixel, from_pixel = values.vectors * lanes;
    for (int64_t v = 0; v < values.vectors; ++v) {
        const float* from = values.from + v * lanes;
        float* y = values.y + v * epilogue.y_vector;
        const Stored* residual = values.residual ? values.residual + v * epilogue.residual_plane : nullptr;
        const bool whole = v + 1 < values.vectors || values.last_lanes == lanes;
        for (int64_t r = 0; r < values.pixels; ++r, from += from_pixel, y += y_pixel) {
            Vec result = apply_curve<CURVE>(load(from));
            if (residual) result = add(result, widen(residual + r * lanes));
            if (whole)
                store(y, result);
            else
                store_first(y, result, values.last_lanes);
        }
    }
}

MNV2_OUTLINED void store_curved_tile(const TileValues& values, const Epilogue& epilogue)
{
    with_curve(epilogue.curve, [&]<Curve CURVE>() { store_curved_values<CURVE>(values, epilogue); });
}

// y = activation(sums * scale + bias) (+ residual). last_lanes: lanes_of_last_vector.
template <int MR, int VECTORS>
MNV2_INLINE void finish_tile(const Accumulators<MR, VECTORS>& sums, const float* scale_and_bias, const Epilogue& epilogue,
                             float* y, int64_t last_lanes, const Stored* residual)
{
    constexpr int64_t nr = VECTORS * lanes, whole = nr - lanes;
    float tile[MR * nr];
    const bool is_whole = last_lanes == lanes;
    float* to = is_whole ? y : tile;
    const int64_t to_pixel = is_whole ? epilogue.y_pixel : nr, to_vector = is_whole ? epilogue.y_vector : lanes;
    if (residual && !is_curved(last_lanes))
        store_tile<true>(sums, scale_and_bias, epilogue, to, to_pixel, to_vector, residual);
    else
        store_tile<false>(sums, scale_and_bias, epilogue, to, to_pixel, to_vector, residual);
    if (is_whole) return;
    if (is_curved(last_lanes)) return store_curved_tile({tile, MR, VECTORS, y, last_lanes - lanes, residual}, epilogue);
    for (int r = 0; r < MR; ++r) {
        const float* from = tile + r * nr;
        float* pixel = y + r * epilogue.y_pixel;
        for (int64_t v = 0; v < whole; v += lanes, pixel += epilogue.y_vector) store(pixel, load(from + v));
        store_first(pixel, load(from + whole), last_lanes);
    }
}

// One pointwise layer, whatever its pixels and panels.
struct PointwiseLayer {
    int64_t depth;
    int64_t x_plane;  // elements from a vector of input channels to the next
    Epilogue epilogue;
};

// Spreads the fetching of the panel behind this one over this one's tiles.
class NextPanel {
public:
    // panel_floats: from a panel to the next. floats_together: what a tile reads between two bursts.
    NextPanel(int64_t panel_floats, int64_t floats_together, int64_t tiles)
        : begin_(panel_floats), end_(begin_ + (is_now(fetch_ahead, tiles) ? floats_together : 0))
    {
        const int64_t bursts = divide_up(end_ - begin_, burst_floats);
        tile_floats_ = divide_up(bursts, tiles) * burst_floats;
    }

    MNV2_INLINE Ahead for_next_tile()
    {
        const int64_t begin = begin_;
        begin_ = smaller(begin + tile_floats_, end_);
        return {begin, begin_};
    }

private:
    int64_t begin_, end_, tile_floats_;
};

// Computes tiles of consecutive pixels of one panel. Arguments: layer, number of tiles, x, panel, y, lanes of the last vector,
// residual, what to fetch meanwhile.
using PointwiseTiles = void (*)(const PointwiseLayer&, int64_t, const Stored*, const float*, float*, int64_t, const Stored*,
                                NextPanel&);

// The tiles that serve a layer, up to the tallest.
struct LayerKernels {
    const PointwiseTiles* of_mr;
    int64_t max_mr;
};

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
