// What all tiles of pointwise layers have in common: the layer, and what becomes of a tile's sums.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "cpu/generic/pointwise/sums-inl.h"
#include "cpu/isa/fetch_ahead.h"
#include "cpu/simd/convert-inl.h"
#include "cpu/simd/macros.h"

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

struct PointwiseLayer {
    int64_t depth;
    int64_t x_plane;  // elements from a block of the input to the next
    Epilogue epilogue;
};

// Shares the fetching of the panel behind this one out to its first tiles.
class NextPanel {
public:
    // Floats from a panel to the next, and those for which a tile fetches its share at a time.
    NextPanel(int64_t panel_floats, int64_t floats_together, int64_t tiles)
        : begin_(panel_floats), end_(begin_ + (is_now(fetch_ahead, tiles) ? floats_together : 0))
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

// Tiles of consecutive pixels of one panel: layer, number of tiles, x, panel, y, lanes of the last vector, residual, what to
// fetch meanwhile.
using PointwiseTiles = void (*)(const PointwiseLayer&, int64_t, const Stored*, const float*, float*, int64_t, const Stored*,
                                NextPanel&);

// By number of rows.
template <int MAX_ROWS>
struct TileKernels {
    PointwiseTiles of_rows[MAX_ROWS + 1];
};

// Those of a layer.
struct LayerKernels {
    const PointwiseTiles* of_rows;
    int64_t max_rows;
};

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
