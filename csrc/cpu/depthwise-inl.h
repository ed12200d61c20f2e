// The depthwise microkernel: one output row of one vector of channels, 3x3, the nine weights in registers.
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

struct DepthwiseRow {
    const float* rows[kernel_size];  // input rows, blocked; zeros where the image ends
    int64_t width, out_width, pad_left;
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

struct Rows {
    const float *top, *middle, *bottom;
};

MNV2_INLINE Rows rows_of(const DepthwiseRow& row)
{
    return {row.rows[0], row.rows[1], row.rows[2]};
}

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

MNV2_INLINE Vec start_column(const DepthwiseWeights& w, const Column& column)
{
    return fma(column.at[2], w.at[6], fma(column.at[1], w.at[3], mul(column.at[0], w.at[0])));
}

MNV2_INLINE void finish_output(const DepthwiseWeights& w, Vec sum, float* y)
{
    store(y, clamp(fma(sum, w.scale, w.bias), w.low, w.high));
}

// An output whose window reaches over the image's left or right end; x is the window's first column.
void depthwise_edge(const DepthwiseRow& row, const DepthwiseWeights& w, int64_t x, float* y)
{
    const Rows rows = rows_of(row);
    Vec sum = splat(0.0f);
    if (x >= 0) sum = start_column(w, load_column(rows, x));
    if (x + 1 >= 0 && x + 1 < row.width) sum = add_column<1>(w, load_column(rows, x + 1), sum);
    if (x + 2 < row.width) sum = add_column<2>(w, load_column(rows, x + 2), sum);
    finish_output(w, sum, y);
}

// count outputs whose windows lie within the image, the first one's at column x.
template <int STRIDE>
MNV2_INLINE void depthwise_sliding(const Rows& rows, const DepthwiseWeights& w, int64_t x, int64_t count, float* y)
{
    if constexpr (STRIDE == 1) {
        const Column first = load_column(rows, x), second = load_column(rows, x + 1);
        Vec current = add_column<1>(w, second, start_column(w, first)), next = start_column(w, second);
        for (int64_t i = 0; i < count; ++i) {
            const Column column = load_column(rows, x + 2 + i);
            finish_output(w, add_column<2>(w, column, current), y + i * lanes);
            current = add_column<1>(w, column, next);
            next = start_column(w, column);
        }
    } else {
        Vec current = start_column(w, load_column(rows, x));
        for (int64_t i = 0; i < count; ++i) {
            current = add_column<1>(w, load_column(rows, x + 2 * i + 1), current);
            const Column shared = load_column(rows, x + 2 * i + 2);
            finish_output(w, add_column<2>(w, shared, current), y + i * lanes);
            current = start_column(w, shared);
        }
    }
}

// OUTPUTS neighbours, the first one's window at column x.
template <int STRIDE, int OUTPUTS>
MNV2_INLINE void depthwise_side_by_side(const Rows& rows, const DepthwiseWeights& w, int64_t x, float* y)
{
    Vec sums[OUTPUTS];
    const float* taps[] = {rows.top + x * lanes, rows.middle + x * lanes, rows.bottom + x * lanes};
    MNV2_UNROLL
    for (int o = 0; o < OUTPUTS; ++o) sums[o] = mul(load(taps[0] + o * STRIDE * lanes), w.at[0]);
    MNV2_UNROLL
    for (int tap = 1; tap < kernel_taps; ++tap) MNV2_UNROLL
    for (int o = 0; o < OUTPUTS; ++o) sums[o] = fma(load(taps[tap / 3] + (o * STRIDE + tap % 3) * lanes), w.at[tap], sums[o]);
    MNV2_UNROLL
    for (int o = 0; o < OUTPUTS; ++o) finish_output(w, sums[o], y + o * lanes);
}

template <int STRIDE>
MNV2_INLINE void depthwise_grouped(const Rows& rows, const DepthwiseWeights& w, int64_t x, int64_t count, float* y)
{
    constexpr int group = 4;
    for (; count >= group; count -= group, x += group * STRIDE, y += group * lanes)
        depthwise_side_by_side<STRIDE, group>(rows, w, x, y);
    if (count == 3) depthwise_side_by_side<STRIDE, 3>(rows, w, x, y);
    if (count == 2) depthwise_side_by_side<STRIDE, 2>(rows, w, x, y);
    if (count == 1) depthwise_side_by_side<STRIDE, 1>(rows, w, x, y);
}

template <int STRIDE>
MNV2_INLINE void depthwise_inside(const DepthwiseRow& row, const DepthwiseWeights& w, int64_t x, int64_t count, float* y)
{
    const Rows rows = rows_of(row);  // in registers: a store of y might change what row points to
    if constexpr (registers >= 32)
        depthwise_sliding<STRIDE>(rows, w, x, count, y);
    else
        depthwise_grouped<STRIDE>(rows, w, x, count, y);
}

template <int STRIDE>
void depthwise_row(const DepthwiseRow& row, const float* packed, float* y)
{
    const DepthwiseWeights w = load_depthwise(packed, row.clamp);
    const int64_t last_column = row.width - kernel_size + row.pad_left;  // of the last window inside, from the first output's
    const int64_t inside_begin = row.pad_left ? 1 : 0;
    int64_t inside_end = last_column < 0 ? 0 : last_column / STRIDE + 1;
    if (inside_end > row.out_width) inside_end = row.out_width;
    int64_t output = 0;
    for (; output < row.out_width && output < inside_begin; ++output)
        depthwise_edge(row, w, output * STRIDE - row.pad_left, y + output * lanes);
    if (output < inside_end) {
        depthwise_inside<STRIDE>(row, w, output * STRIDE - row.pad_left, inside_end - output, y + output * lanes);
        output = inside_end;
    }
    for (; output < row.out_width; ++output) depthwise_edge(row, w, output * STRIDE - row.pad_left, y + output * lanes);
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
