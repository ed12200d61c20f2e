// The depthwise microkernel: output rows of one vector of channels, 3x3, the nine weights in registers.
//
// Two forms. With thirty-two registers columns slide: each is loaded once and serves up to three outputs. With sixteen there
// is no room for that beside the weights; a few outputs are then computed side by side, and every tap is a memory operand:
// 5.7 cycles an output on Zen 3, where sliding takes 7.8 (nine multiply-adds take 4.5).
#pragma once

#include <cstdint>

#include "core/block.h"
#include "cpu/simd/macros.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

// Input rows of one vector of channels, blocked, in a ring: row r stands in slot r modulo ring_rows.
struct DepthwiseInput {
    const float *ring, *zeros;
    int64_t ring_rows, height, width;

    // A row where the image has one, zeros elsewhere; slot is below 2 * ring_rows.
    MNV2_INLINE const float* row_at(int64_t row, int64_t slot) const
    {
        if (row < 0 || row >= height) return zeros;
        return ring + (slot < ring_rows ? slot : slot - ring_rows) * width * lanes;
    }
};

struct DepthwiseWindow {
    int64_t first_row, out_rows, out_width;  // first_row: the input row at the first output row's top, -1 where that is padding
    int64_t pad_left;
    Clamp clamp;
};

struct DepthwiseWeights {
    Vec at[kernel_taps];
    Vec scale, bias, low, high;
};

MNV2_INLINE DepthwiseWeights load_depthwise(const float* packed, const Clamp& clamp)
{
    DepthwiseWeights weights;
    weights.scale = load(packed);
    weights.bias = load(packed + lanes);
    MNV2_UNROLL
    for (int i = 0; i < kernel_taps; ++i) weights.at[i] = load(packed + (2 + i) * lanes);
    weights.low = splat(clamp.low);
    weights.high = splat(clamp.high);
    return weights;
}

struct Column {
    Vec at[kernel_size];
};

// The input rows of an output row.
struct Rows {
    const float *top, *middle, *bottom;
};

MNV2_INLINE Column load_column(const Rows& rows, int64_t x)
{
    return {{load(rows.top + x * lanes), load(rows.middle + x * lanes), load(rows.bottom + x * lanes)}};
}

// The column's share of an output in which it stands at position kx.
template <int KX>
MNV2_INLINE Vec add_column(const DepthwiseWeights& w, const Column& column, Vec sum)
{
    return fma(column.at[2], w.at[6 + KX], fma(column.at[1], w.at[3 + KX], fma(column.at[0], w.at[KX], sum)));
}

MNV2_INLINE void finish_output(const DepthwiseWeights& w, Vec sum, float* y)
{
    store(y, clamp(fma(sum, w.scale, w.bias), w.low, w.high));
}

// Padding is one column at most, so only the first output's window can start before the image (left), only the last one's
// end behind it (right), and either by one column.
template <int STRIDE>
MNV2_INLINE void depthwise_sliding(const Rows& rows, const DepthwiseWeights& w, int64_t outputs, bool left, bool right,
                                   float* y)
{
    const int64_t inside = outputs - right;
    const Vec zero = splat(0.0f);
    int64_t x = left ? -1 : 0;
    if constexpr (STRIDE == 1) {
        const Column second = load_column(rows, x + 1);
        Vec current = add_column<1>(w, second, left ? zero : add_column<0>(w, load_column(rows, x), zero));
        Vec next = add_column<0>(w, second, zero);
        for (int64_t i = 0; i < inside; ++i) {
            const Column column = load_column(rows, x + 2 + i);
            finish_output(w, add_column<2>(w, column, current), y + i * lanes);
            current = add_column<1>(w, column, next);
            next = add_column<0>(w, column, zero);
        }
        if (right) finish_output(w, current, y + inside * lanes);
    } else {
        Vec current = left ? zero : add_column<0>(w, load_column(rows, x), zero);
        for (int64_t i = 0; i < inside; ++i, x += STRIDE) {
            current = add_column<1>(w, load_column(rows, x + 1), current);
            const Column shared = load_column(rows, x + 2);
            finish_output(w, add_column<2>(w, shared, current), y + i * lanes);
            current = add_column<0>(w, shared, zero);
        }
        if (right) finish_output(w, add_column<1>(w, load_column(rows, x + 1), current), y + inside * lanes);
    }
}

// OUTPUTS neighbours, the first one's window at column x.
template <int STRIDE, int OUTPUTS, bool LEFT, bool RIGHT>
MNV2_INLINE void depthwise_group(const Rows& rows, const DepthwiseWeights& w, int64_t x, float* y)
{
    Vec sums[OUTPUTS];
    const float* taps[] = {rows.top + x * lanes, rows.middle + x * lanes, rows.bottom + x * lanes};
    MNV2_UNROLL
    for (int o = 0; o < OUTPUTS; ++o) sums[o] = splat(0.0f);
    MNV2_UNROLL
    for (int tap = 0; tap < kernel_taps; ++tap) {
        const int ky = tap / kernel_size, kx = tap % kernel_size;
        MNV2_UNROLL
        for (int o = 0; o < OUTPUTS; ++o) {
            const bool outside = (LEFT && o == 0 && kx == 0) || (RIGHT && o == OUTPUTS - 1 && kx == kernel_size - 1);
            if (!outside) sums[o] = fma(load(taps[ky] + (o * STRIDE + kx) * lanes), w.at[tap], sums[o]);
        }
    }
    MNV2_UNROLL
    for (int o = 0; o < OUTPUTS; ++o) finish_output(w, sums[o], y + o * lanes);
}

template <int STRIDE, int OUTPUTS>
MNV2_INLINE void depthwise_group_at(const Rows& rows, const DepthwiseWeights& w, int64_t x, bool left, bool right, float* y)
{
    if (left && right) return depthwise_group<STRIDE, OUTPUTS, true, true>(rows, w, x, y);
    if (left) return depthwise_group<STRIDE, OUTPUTS, true, false>(rows, w, x, y);
    if (right) return depthwise_group<STRIDE, OUTPUTS, false, true>(rows, w, x, y);
    depthwise_group<STRIDE, OUTPUTS, false, false>(rows, w, x, y);
}

constexpr int group_outputs = 4;

template <int STRIDE>
MNV2_INLINE void depthwise_last_group(const Rows& rows, const DepthwiseWeights& w, int64_t x, int64_t outputs, bool left,
                                      bool right, float* y)
{
    static_assert(group_outputs == 4);
    switch (outputs) {
        case 1: return depthwise_group_at<STRIDE, 1>(rows, w, x, left, right, y);
        case 2: return depthwise_group_at<STRIDE, 2>(rows, w, x, left, right, y);
        case 3: return depthwise_group_at<STRIDE, 3>(rows, w, x, left, right, y);
        default: return depthwise_group_at<STRIDE, 4>(rows, w, x, left, right, y);
    }
}

template <int STRIDE>
MNV2_INLINE void depthwise_grouped(const Rows& rows, const DepthwiseWeights& w, int64_t outputs, bool left, bool right,
                                   float* y)
{
    constexpr int64_t step = group_outputs * STRIDE;
    int64_t x = left ? -1 : 0;
    if (outputs <= group_outputs) return depthwise_last_group<STRIDE>(rows, w, x, outputs, left, right, y);
    depthwise_group_at<STRIDE, group_outputs>(rows, w, x, left, false, y);
    outputs -= group_outputs, x += step, y += group_outputs * lanes;
    for (; outputs > group_outputs; outputs -= group_outputs, x += step, y += group_outputs * lanes)
        depthwise_group<STRIDE, group_outputs, false, false>(rows, w, x, y);
    depthwise_last_group<STRIDE>(rows, w, x, outputs, false, right, y);
}

template <int STRIDE>
void depthwise_rows(const DepthwiseInput& input, const DepthwiseWindow& window, const float* packed, float* y)
{
    const DepthwiseWeights w = load_depthwise(packed, window.clamp);
    const bool left = window.pad_left > 0;
    const bool right = (window.out_width - 1) * STRIDE - window.pad_left + kernel_size > input.width;
    // The modulo takes as long as several outputs: it is taken once, then the slot moves on.
    int64_t row = window.first_row, slot = (row + input.ring_rows) % input.ring_rows;
    for (int64_t i = 0; i < window.out_rows; ++i, y += window.out_width * lanes) {
        const Rows rows{input.row_at(row, slot), input.row_at(row + 1, slot + 1), input.row_at(row + 2, slot + 2)};
        if constexpr (registers >= 32)
            depthwise_sliding<STRIDE>(rows, w, window.out_width, left, right, y);
        else
            depthwise_grouped<STRIDE>(rows, w, window.out_width, left, right, y);
        row += STRIDE;
        slot += STRIDE;
        if (slot >= input.ring_rows) slot -= input.ring_rows;
    }
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
