// The depthwise microkernel for 3x3 and activations that clamp: output rows of one vector of channels, the nine weights in
// registers.
//
// Two forms. With thirty-two registers columns slide: each is loaded once and serves up to three outputs. At stride 2 two
// output rows go together, since both read one input row: 7.2 cycles an output on Neoverse N1 by llvm-mca, 9.0 one row at a
// time. With sixteen registers there is no room for that beside the weights: a few outputs are computed side by side, and every
// tap is a memory operand. That takes 5.7 cycles an output on Zen 3, sliding 7.8; nine multiply-adds take 4.5.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "cpu/simd/convert-inl.h"
#include "cpu/simd/macros.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

// Input rows of one vector of channels, blocked: row r of the image stands in slot r modulo `slots`.
struct DepthwiseInput {
    const float *rows, *zeros;
    int64_t slots, height, width;

    // A row where the image has one, zeros elsewhere. slot: below 2 * slots.
    MNV2_INLINE const float* row_at(int64_t row, int64_t slot) const
    {
        if (row < 0 || row >= height) return zeros;
        return rows + (slot < slots ? slot : slot - slots) * width * lanes;
    }
};

constexpr bool slides = register_count >= 32;

struct DepthwiseWindow {
    int64_t first_row, out_rows,
        out_width;  // first_row: the input row at the first output row's top, below 0 where that is padding
    int64_t pad_left;
    Clamp clamp;
    Curve curve;
};

struct DepthwiseWeights {
    Register at[kernel_taps];
    Register scale, bias, low, high;
    const float* bias_in_memory;
};

MNV2_INLINE DepthwiseWeights load_depthwise(const float* packed, const Clamp& clamp)
{
    DepthwiseWeights weights;
    weights.scale = load_register(packed);
    weights.bias_in_memory = packed + lanes;
    weights.bias = load_register(weights.bias_in_memory);
    MNV2_UNROLL
    for (int i = 0; i < kernel_taps; ++i) weights.at[i] = load_register(packed + (2 + i) * lanes);
    weights.low = splat_register(clamp.low);
    weights.high = splat_register(clamp.high);
    return weights;
}

// Rows one below the other: input rows from the top one of a window on, or output rows.
template <int COUNT, typename Float = const float>
struct Rows {
    Float* at[COUNT];
};

// The compiler is not to see that rows move together, or it gives them one index register: on Neoverse N1 a load with an index
// takes two micro-operations of the 128 that the core looks ahead.
template <int COUNT, typename Float>
MNV2_INLINE void advance(Rows<COUNT, Float>& rows, int64_t columns)
{
    MNV2_UNROLL
    for (int i = 0; i < COUNT; ++i) {
        rows.at[i] += columns * lanes;
        MNV2_OPAQUE(rows.at[i]);
    }
}

// One column of some input rows.
template <int COUNT>
struct Column {
    Register at[COUNT];
};

template <int COUNT>
MNV2_INLINE Column<COUNT> load_column(const Rows<COUNT>& rows, int64_t x)
{
    Column<COUNT> column;
    MNV2_UNROLL
    for (int i = 0; i < COUNT; ++i) column.at[i] = load_register(rows.at[i] + x * lanes);
    return column;
}

// A load for each output is cheaper than a copy of the bias in its register, which takes the multiply-adds' pipes: 6.5 cycles
// an output instead of 7.0 on Neoverse N2, 3.25 instead of 3.5 on V2 (llvm-mca).
MNV2_INLINE void finish_output(const DepthwiseWeights& w, Register sum, Stored* y)
{
    Register bias = w.bias;
    if constexpr (fma_overwrites_addend) {
        const float* from = w.bias_in_memory;
        MNV2_OPAQUE(from);
        bias = load_register(from);
    }
    narrow(y, clamp(fma(sum, w.scale, bias), w.low, w.high));
}

constexpr int rows_of_outputs(int out_rows, int stride)
{
    return (out_rows - 1) * stride + kernel_size;
}

// The sums of one output column, one below the other.
template <int STRIDE, int OUT_ROWS>
struct OutputColumn {
    using Input = Column<rows_of_outputs(OUT_ROWS, STRIDE)>;
    Register at[OUT_ROWS];

    MNV2_INLINE void clear()
    {
        MNV2_UNROLL
        for (int i = 0; i < OUT_ROWS; ++i) at[i] = splat_register(0.0f);
    }
    // at += an input column at position KX of the window times its weights, or at = the product.
    template <int KX>
    MNV2_INLINE void add(const DepthwiseWeights& w, const Input& column)
    {
        MNV2_UNROLL
        for (int i = 0; i < OUT_ROWS; ++i) at[i] = add_rest<KX>(w, column, i, fma(column.at[i * STRIDE], w.at[KX], at[i]));
    }
    template <int KX>
    MNV2_INLINE void start(const DepthwiseWeights& w, const Input& column)
    {
        MNV2_UNROLL
        for (int i = 0; i < OUT_ROWS; ++i) at[i] = add_rest<KX>(w, column, i, mul(column.at[i * STRIDE], w.at[KX]));
    }
    MNV2_INLINE void finish(const DepthwiseWeights& w, const Rows<OUT_ROWS, Stored>& y, int64_t column) const
    {
        MNV2_UNROLL
        for (int i = 0; i < OUT_ROWS; ++i) finish_output(w, at[i], y.at[i] + column * lanes);
    }

private:
    template <int KX>
    MNV2_INLINE static Register add_rest(const DepthwiseWeights& w, const Input& column, int i, Register sum)
    {
        return fma(column.at[i * STRIDE + 2], w.at[6 + KX], fma(column.at[i * STRIDE + 1], w.at[3 + KX], sum));
    }
};

// Finishes an output column at stride 1, whose last input column is the given one of rows, and begins another in its place.
template <int OUT_ROWS>
MNV2_INLINE void slide_by_one(const Rows<rows_of_outputs(OUT_ROWS, 1)>& rows, const DepthwiseWeights& w, int64_t column,
                              OutputColumn<1, OUT_ROWS>& current, OutputColumn<1, OUT_ROWS>& next,
                              const Rows<OUT_ROWS, Stored>& y)
{
    const auto last = load_column(rows, column);
    OutputColumn<1, OUT_ROWS> begun;
    current.template add<2>(w, last);
    current.finish(w, y, column);
    begun.template start<0>(w, last);
    next.template add<1>(w, last);
    current = begun;
}

// The same at stride 2, where two input columns are new and the last one is the next output's first.
template <int OUT_ROWS>
MNV2_INLINE void slide_by_two(const Rows<rows_of_outputs(OUT_ROWS, 2)>& rows, const DepthwiseWeights& w, int64_t output,
                              OutputColumn<2, OUT_ROWS>& current, const Rows<OUT_ROWS, Stored>& y)
{
    const auto second = load_column(rows, 2 * output), last = load_column(rows, 2 * output + 1);
    current.template add<1>(w, second);
    current.template add<2>(w, last);
    current.finish(w, y, output);
    current.template start<0>(w, last);
}

// Padding is one column at most, so only the first output's window can start before the image (left), only the last one's
// end behind it (right), and either by one column. Two outputs an iteration: sums then need no moves between registers.
template <int STRIDE, int OUT_ROWS>
MNV2_INLINE void depthwise_sliding(Rows<rows_of_outputs(OUT_ROWS, STRIDE)> rows, const DepthwiseWeights& w, int64_t outputs,
                                   bool left, bool right, Rows<OUT_ROWS, Stored> y)
{
    int64_t inside = outputs - right;
    OutputColumn<STRIDE, OUT_ROWS> current;
    if (left) {
        current.clear();
    } else {
        current.template start<0>(w, load_column(rows, 0));
        advance(rows, 1);
    }
    if constexpr (STRIDE == 1) {
        const auto second = load_column(rows, 0);
        OutputColumn<STRIDE, OUT_ROWS> next;
        current.template add<1>(w, second);
        next.template start<0>(w, second);
        advance(rows, 1);
        for (; inside >= 2; inside -= 2, advance(rows, 2), advance(y, 2)) {
            slide_by_one(rows, w, 0, current, next, y);
            slide_by_one(rows, w, 1, next, current, y);
        }
        if (inside) {
            slide_by_one(rows, w, 0, current, next, y);
            current = next;
        }
        if (right) current.finish(w, y, inside);
    } else {
        for (; inside >= 2; inside -= 2, advance(rows, 4), advance(y, 2)) {
            slide_by_two(rows, w, 0, current, y);
            slide_by_two(rows, w, 1, current, y);
        }
        if (inside) slide_by_two(rows, w, 0, current, y);
        if (!right) return;
        current.template add<1>(w, load_column(rows, 2 * inside));
        current.finish(w, y, inside);
    }
}

// Neighbouring outputs of a row. left: the first one's window begins before the image; right: the last one's ends behind it.
struct Group {
    int stride, outputs;
    bool left, right;
};

// The first output's window is at column x.
template <Group GROUP>
MNV2_INLINE void depthwise_group(const Rows<kernel_size>& rows, const DepthwiseWeights& w, int64_t x, Stored* y)
{
    Register sums[GROUP.outputs];
    const float* taps[] = {rows.at[0] + x * lanes, rows.at[1] + x * lanes, rows.at[2] + x * lanes};
    MNV2_UNROLL
    for (int o = 0; o < GROUP.outputs; ++o) sums[o] = splat_register(0.0f);
    MNV2_UNROLL
    for (int tap = 0; tap < kernel_taps; ++tap) {
        const int ky = tap / kernel_size, kx = tap % kernel_size;
        MNV2_UNROLL
        for (int o = 0; o < GROUP.outputs; ++o) {
            const bool outside =
                (GROUP.left && o == 0 && kx == 0) || (GROUP.right && o == GROUP.outputs - 1 && kx == kernel_size - 1);
            if (!outside) sums[o] = fma(load_register(taps[ky] + (o * GROUP.stride + kx) * lanes), w.at[tap], sums[o]);
        }
    }
    MNV2_UNROLL
    for (int o = 0; o < GROUP.outputs; ++o) finish_output(w, sums[o], y + o * lanes);
}

template <int STRIDE, int OUTPUTS>
MNV2_INLINE void depthwise_group_at(const Rows<kernel_size>& rows, const DepthwiseWeights& w, int64_t x, bool left, bool right,
                                    Stored* y)
{
    if (left && right) return depthwise_group<Group{STRIDE, OUTPUTS, true, true}>(rows, w, x, y);
    if (left) return depthwise_group<Group{STRIDE, OUTPUTS, true, false}>(rows, w, x, y);
    if (right) return depthwise_group<Group{STRIDE, OUTPUTS, false, true}>(rows, w, x, y);
    depthwise_group<Group{STRIDE, OUTPUTS, false, false}>(rows, w, x, y);
}

constexpr int group_outputs = 4;

template <int STRIDE>
MNV2_INLINE void depthwise_last_group(const Rows<kernel_size>& rows, const DepthwiseWeights& w, int64_t x, int64_t outputs,
                                      bool left, bool right, Stored* y)
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
MNV2_INLINE void depthwise_grouped(const Rows<kernel_size>& rows, const DepthwiseWeights& w, int64_t outputs, bool left,
                                   bool right, Stored* y)
{
    constexpr Group inside{.stride = STRIDE, .outputs = group_outputs, .left = false, .right = false};
    constexpr int64_t group_columns = group_outputs * STRIDE;
    int64_t x = left ? -1 : 0;
    if (outputs <= group_outputs) return depthwise_last_group<STRIDE>(rows, w, x, outputs, left, right, y);
    depthwise_group_at<STRIDE, group_outputs>(rows, w, x, left, false, y);
    outputs -= group_outputs, x += group_columns, y += group_outputs * lanes;
    for (; outputs > group_outputs; outputs -= group_outputs, x += group_columns, y += group_outputs * lanes)
        depthwise_group<inside>(rows, w, x, y);
    depthwise_last_group<STRIDE>(rows, w, x, outputs, false, right, y);
}

// OUT_ROWS output rows. Their first input row, number `row`, stands in slot `slot`.
template <int STRIDE, int OUT_ROWS>
MNV2_INLINE void depthwise_some_rows(const DepthwiseInput& input, int64_t row, int64_t slot, const DepthwiseWeights& w,
                                     int64_t outputs, bool left, bool right, Stored* y)
{
    Rows<rows_of_outputs(OUT_ROWS, STRIDE)> rows;
    for (int i = 0; i < rows_of_outputs(OUT_ROWS, STRIDE); ++i) rows.at[i] = input.row_at(row + i, slot + i);
    if constexpr (slides) {
        Rows<OUT_ROWS, Stored> y_rows;
        for (int i = 0; i < OUT_ROWS; ++i) y_rows.at[i] = y + i * outputs * lanes;
        depthwise_sliding<STRIDE, OUT_ROWS>(rows, w, outputs, left, right, y_rows);
    } else {
        depthwise_grouped<STRIDE>(rows, w, outputs, left, right, y);
    }
}

// One register of the vectors: packed and y point to its first channel.
template <int STRIDE>
MNV2_INLINE void depthwise_register(const DepthwiseInput& input, const DepthwiseWindow& window, const float* packed, Stored* y)
{
    constexpr int rows_together = slides && STRIDE == 2 ? 2 : 1;
    const DepthwiseWeights w = load_depthwise(packed, window.clamp);
    const int64_t outputs = window.out_width;
    const bool left = window.pad_left > 0;
    const bool right = (outputs - 1) * STRIDE - window.pad_left + kernel_size > input.width;
    // A modulo takes as long as several outputs: there is one, then the slot moves on.
    int64_t row = window.first_row, slot = (row + input.slots) % input.slots, left_over = window.out_rows;
    const auto advance = [&](int64_t out_rows) {
        y += out_rows * outputs * lanes;
        row += out_rows * STRIDE;
        slot += out_rows * STRIDE;
        if (slot >= input.slots) slot -= input.slots;
        left_over -= out_rows;
    };
    for (; left_over >= rows_together; advance(rows_together))
        depthwise_some_rows<STRIDE, rows_together>(input, row, slot, w, outputs, left, right, y);
    for (; left_over > 0; advance(1)) depthwise_some_rows<STRIDE, 1>(input, row, slot, w, outputs, left, right, y);
}

template <int STRIDE>
void depthwise_rows(const DepthwiseInput& input, const DepthwiseWindow& window, const float* packed, Stored* y)
{
    constexpr int width = lanes / vector_registers;
    for (int first = 0; first < lanes; first += width) {
        DepthwiseInput of_register = input;
        of_register.rows += first;
        depthwise_register<STRIDE>(of_register, window, packed + first, y + first);
    }
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
