// The stem: a dense 3x3 convolution of an image with few channels. A tile is ROWS output columns of one row; its input is
// read in place from zero-padded rows, one channel each, so nothing is unfolded.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include "cpu/kernels.h"
#include "cpu/pointwise-inl.h"
#include "cpu/rows-inl.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

struct StemLayer {
    int64_t in_channels;
    const float* rows[kernel_size];  // channel 0 at the window's three rows
    int64_t channel_step;            // floats from a channel's row to the next channel's
    Epilogue epilogue;
};

template <int STRIDE, int ROWS, int VECTORS>
void stem_tile(const StemLayer& layer, int64_t column, const float* panel, float* y, int64_t last_lanes)
{
    constexpr int width = VECTORS * lanes;
    constexpr int64_t sum_channels = sum_depth / kernel_taps;
    Accumulators<ROWS, VECTORS> sums;
    SecondAccumulators<ROWS, VECTORS> second;
    clear(sums);
    const float* weights = panel + 2 * width;
    const bool is_long = layer.in_channels * kernel_taps >= long_depth;
    for (int64_t channel = 0; channel < layer.in_channels; ++channel) {
        if (is_long && channel && channel % sum_channels == 0) second.take(sums);
        for (int64_t ky = 0; ky < kernel_size; ++ky, weights += kernel_size * width) {
            const float* x = layer.rows[ky] + channel * layer.channel_step + column;
            add_depth<STRIDE>(sums, x, weights);
            add_depth<STRIDE>(sums, x + 1, weights + width);
            add_depth<STRIDE>(sums, x + 2, weights + 2 * width);
        }
    }
    if (second.used()) second.give(sums);
    finish_tile(sums, panel, layer.epilogue, y, last_lanes, nullptr);
}

using StemTile = void (*)(const StemLayer&, int64_t, const float*, float*, int64_t);

template <int VECTORS>
struct StemTiles {
    static constexpr int max_rows = tile_rows[VECTORS - 1];
    StemTile of_rows[max_rows + 1];
};

template <int STRIDE, int VECTORS, int... ROWS_BELOW>
constexpr StemTiles<VECTORS> list_stem_tiles(std::integer_sequence<int, ROWS_BELOW...>)
{
    return {{nullptr, stem_tile<STRIDE, ROWS_BELOW + 1, VECTORS>...}};
}

template <int STRIDE, int VECTORS>
constexpr StemTiles<VECTORS> stem_tiles =
    list_stem_tiles<STRIDE, VECTORS>(std::make_integer_sequence<int, tile_rows[VECTORS - 1]>());

template <int STRIDE, int VECTORS>
void stem_panel(const StemLayer& layer, int64_t columns, const float* panel, float* y, int64_t last_lanes)
{
    constexpr const StemTiles<VECTORS>& tiles = stem_tiles<STRIDE, VECTORS>;
    int64_t column = 0;
    for (int64_t left = (columns + tiles.max_rows - 1) / tiles.max_rows; left > 0; --left) {
        const int64_t count = (columns - column + left - 1) / left;
        tiles.of_rows[count](layer, column * STRIDE, panel, y + column * layer.epilogue.y_pixel, last_lanes);
        column += count;
    }
}

template <int STRIDE>
void stem_row(const StemLayer& layer, int64_t columns, int64_t out_channels, const float* packed, float* y)
{
    const float* panel = packed;
    for (int64_t channel = 0; channel < out_channels; channel += panel_width) {
        const int64_t channels = out_channels - channel;
        const int64_t last_lanes = lanes_of_last_vector(channels, layer.epilogue);
        if (channels > lanes)
            stem_panel<STRIDE, 2>(layer, columns, panel, y + channel, last_lanes);
        else
            stem_panel<STRIDE, 1>(layer, columns, panel, y + channel, last_lanes);
        panel += panel_width * (layer.in_channels * kernel_taps + 2);
    }
}

// The input rows of a segment, padded with zeros: three of each channel, a row standing at its index modulo three.
class StemRows {
public:
    explicit StemRows(const StemTask& task) : task_(task), params_(*task.params), row_floats_(task.plan->row_floats) {}

    int64_t channel_step() const { return kernel_size * row_floats_; }

    const float* row(int64_t y) const { return task_.scratch + slot(y) * row_floats_; }

    void load(int64_t y)
    {
        float* to = task_.scratch + slot(y) * row_floats_;
        const bool inside = y >= 0 && y < params_.height;
        const int64_t left = params_.padding.left, columns = inside ? used_columns() : 0;
        for (int64_t channel = 0; channel < params_.in_channels; ++channel, to += channel_step()) {
            std::memset(to, 0, static_cast<size_t>(row_floats_) * sizeof(float));
            load_channel_row(task_.x, channel, columns, y, to + left);
        }
    }

private:
    static int64_t slot(int64_t y) { return (y + kernel_size) % kernel_size; }

    // The last columns of a strided image may lie outside of every window.
    int64_t used_columns() const
    {
        const int64_t room = row_floats_ - params_.padding.left;
        return params_.width < room ? params_.width : room;
    }

    const StemTask& task_;
    const StemParams& params_;
    int64_t row_floats_;
};

void stem(const StemTask& task)
{
    const StemParams& params = *task.params;
    const int64_t out_width = params.out_width(), row_values = out_width * params.out_channels;
    const bool direct = task.x.dtype == ScalarType::float32;
    StemRows input(task);
    StemLayer layer{
        params.in_channels, {}, input.channel_step(), {clamp_of(params.activation), params.out_channels, lanes, false, 0}};
    int64_t loaded = task.row_begin * params.stride - params.padding.top;
    for (int64_t row = task.row_begin; row < task.row_end; ++row) {
        const int64_t top = row * params.stride - params.padding.top;
        for (; loaded < top + kernel_size; ++loaded) input.load(loaded);
        for (int64_t ky = 0; ky < kernel_size; ++ky) layer.rows[ky] = input.row(top + ky);
        float* y = direct ? static_cast<float*>(task.y) + row * row_values : task.scratch + task.plan->result;
        if (params.stride == 1)
            stem_row<1>(layer, out_width, params.out_channels, task.packed, y);
        else
            stem_row<2>(layer, out_width, params.out_channels, task.packed, y);
        if (!direct) store_values(y, row_values, task.x.dtype, task.y, row * row_values);
    }
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
