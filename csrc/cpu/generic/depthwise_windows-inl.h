// The depthwise microkernel for any kernel and activation: output rows of one vector of channels, whose window's rows are taken
// one after another. The weights of one row are in registers, beside the sums of neighbouring outputs; a column is loaded once
// and serves all outputs whose windows have it. (depthwise-inl.h holds all nine weights of a 3x3, which leaves no room for 25.)
#pragma once

#include <cstdint>

#include "core/block.h"
#include "cpu/generic/curves-inl.h"
#include "cpu/generic/depthwise-inl.h"
#include "cpu/generic/pointwise/sums-inl.h"
#include "cpu/simd/convert-inl.h"
#include "cpu/simd/macros.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

// Neighbouring outputs of a row.
struct OutputGroup {
    int kernel, stride, outputs;

    constexpr int columns() const { return (outputs - 1) * stride + kernel; }
};

// The most outputs of a group: seven sums beside seven weights fit sixteen registers, and the widths of most networks are
// multiples of seven.
constexpr int most_outputs = register_count >= 32 ? 14 : 7;

constexpr int next_smaller_group(int outputs)
{
    return outputs == 7 ? 4 : outputs / 2;
}

// A window's rows that lie in the image, one below the other, and their weights.
template <int KERNEL>
struct RowsInside {
    const float* at[KERNEL];
    int64_t count;
    const float* weights;
};

// Columns of a group that lie to the left and to the right of the image.
struct ColumnsOutside {
    int64_t left, right;
};

// sums += a row's columns times its weights.
template <OutputGroup GROUP>
MNV2_INLINE void add_window_row(Register (&sums)[GROUP.outputs], const float* row, const float* weights,
                                const ColumnsOutside& outside)
{
    constexpr int columns = GROUP.columns(), rim = most_padding(GROUP.kernel);
    Register w[GROUP.kernel];
    MNV2_UNROLL
    for (int kx = 0; kx < GROUP.kernel; ++kx) w[kx] = load_register(weights + kx * lanes);
    MNV2_UNROLL
    for (int column = 0; column < columns; ++column) {
        if (column < rim && column < outside.left) continue;
        if (column >= columns - rim && column >= columns - outside.right) continue;
        const Register x = load_register(row + column * lanes);
        MNV2_UNROLL
        for (int o = 0; o < GROUP.outputs; ++o) {
            const int kx = column - o * GROUP.stride;
            if (kx >= 0 && kx < GROUP.kernel) sums[o] = fma(x, w[kx], sums[o]);
        }
    }
}

// Activates and stores results that do not fit the registers beside what a curve takes.
MNV2_OUTLINED void store_curved(Curve curve, const float* from, int64_t outputs, Stored* y)
{
    constexpr int register_floats = lanes / vector_registers;
    with_curve(curve, [&]<Curve CURVE>() {
        for (int64_t o = 0; o < outputs; ++o)
            narrow(y + o * lanes, apply_curve<CURVE>(load_register(from + o * register_floats)));
    });
}

// packed: scale and bias of a register's channels.
template <int OUTPUTS>
MNV2_INLINE void finish_group(const Register (&sums)[OUTPUTS], const float* packed, const DepthwiseWindow& window, Stored* y)
{
    constexpr int register_floats = lanes / vector_registers;
    const Register scale = load_register(packed), bias = load_register(packed + lanes);
    if (window.curve == Curve::none) {
        const Register low = splat_register(window.clamp.low), high = splat_register(window.clamp.high);
        MNV2_UNROLL
        for (int o = 0; o < OUTPUTS; ++o) narrow(y + o * lanes, clamp(fma(sums[o], scale, bias), low, high));
        return;
    }
    float results[OUTPUTS * register_floats];
    MNV2_UNROLL
    for (int o = 0; o < OUTPUTS; ++o) store_register(results + o * register_floats, fma(sums[o], scale, bias));
    store_curved(window.curve, results, OUTPUTS, y);
}

template <OutputGroup GROUP>
void window_group(const RowsInside<GROUP.kernel>& rows, int64_t column, const ColumnsOutside& outside, const float* packed,
                  const DepthwiseWindow& window, Stored* y)
{
    Register sums[GROUP.outputs];
    MNV2_UNROLL
    for (int o = 0; o < GROUP.outputs; ++o) sums[o] = splat_register(0.0f);
    const float* weights = rows.weights;
    for (int64_t i = 0; i < rows.count; ++i, weights += GROUP.kernel * lanes)
        add_window_row<GROUP>(sums, rows.at[i] + column * lanes, weights, outside);
    finish_group(sums, packed, window, y);
}

// Outputs [first, window.out_width) of a row, the largest groups first.
template <OutputGroup GROUP>
MNV2_INLINE void window_groups(const RowsInside<GROUP.kernel>& rows, int64_t first, int64_t width, const float* packed,
                               const DepthwiseWindow& window, Stored* y)
{
    for (; window.out_width - first >= GROUP.outputs; first += GROUP.outputs) {
        const int64_t column = first * GROUP.stride - window.pad_left;
        const ColumnsOutside outside{larger(-column, 0), larger(column + GROUP.columns() - width, 0)};
        window_group<GROUP>(rows, column, outside, packed, window, y + first * lanes);
    }
    constexpr OutputGroup smaller_group{GROUP.kernel, GROUP.stride, next_smaller_group(GROUP.outputs)};
    if constexpr (GROUP.outputs > 1) window_groups<smaller_group>(rows, first, width, packed, window, y);
}

// Output rows one below the other.
template <int KERNEL, int STRIDE>
void window_rows(const DepthwiseInput& input, const DepthwiseWindow& window, const float* packed, Stored* y)
{
    constexpr OutputGroup group{KERNEL, STRIDE, most_outputs};
    int64_t top = larger(window.first_row, 0), slot = top % input.slots;  // the first row in the image, and where it stands
    for (int64_t out = 0; out < window.out_rows; ++out, y += window.out_width * lanes) {
        const int64_t row = window.first_row + out * STRIDE, inside = larger(row, 0);
        slot += inside - top;
        if (slot >= input.slots) slot -= input.slots;
        top = inside;
        RowsInside<KERNEL> rows{{}, smaller(row + KERNEL, input.height) - top, packed + (2 + (top - row) * KERNEL) * lanes};
        for (int64_t i = 0; i < rows.count; ++i) rows.at[i] = input.row_at(top + i, slot + i);
        window_groups<group>(rows, 0, input.width, packed, window, y);
    }
}

template <int KERNEL, int STRIDE>
void depthwise_windows(const DepthwiseInput& input, const DepthwiseWindow& window, const float* packed, Stored* y)
{
    constexpr int width = lanes / vector_registers;
    for (int first = 0; first < lanes; first += width) {
        DepthwiseInput of_register = input;
        of_register.rows += first;
        window_rows<KERNEL, STRIDE>(of_register, window, packed + first, y + first);
    }
}

// Computes output rows of one vector of channels. packed: the vector's.
using DepthwiseKernel = void (*)(const DepthwiseInput&, const DepthwiseWindow&, const float*, Stored*);

template <int STRIDE>
DepthwiseKernel depthwise_kernel_of(int32_t kernel, Curve curve)
{
    switch (kernel) {
        case 5: return depthwise_windows<5, STRIDE>;
        case 7: return depthwise_windows<7, STRIDE>;
        default: return curve == Curve::none ? depthwise_rows<STRIDE> : depthwise_windows<3, STRIDE>;
    }
}

DepthwiseKernel depthwise_kernel(int32_t kernel, int32_t stride, Curve curve)
{
    return stride == 1 ? depthwise_kernel_of<1>(kernel, curve) : depthwise_kernel_of<2>(kernel, curve);
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
