// The stem: a dense convolution of an image with few channels. A tile is MR output columns of one row; its input is read
// in place from zero-padded rows, one channel each, so nothing is unfolded.
#pragma once

#include <cstdint>

#include "core/sizes.h"
#include "cpu/generic/pointwise/pointwise-inl.h"
#include "cpu/generic/rows-inl.h"
#include "cpu/kernels.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

struct StemLayer {
    int64_t in_channels;
    int64_t kernel;
    const float* rows[largest_kernel];  // channel 0 at the window's rows
    int64_t channel_stride;             // floats from a channel's row to the next channel's
    Epilogue epilogue;

    int64_t depth() const { return in_channels * taps_of(kernel); }
};

// A tile of mr output columns by `vectors` vectors of channels. is_general: any kernel, and a second accumulator for long sums;
// others have a 3x3, whose loops are written out.
struct StemTile {
    int stride, mr, vectors;
    bool is_general;
};

// sums += one channel's window times its weights, which move on.
template <StemTile TILE>
MNV2_INLINE void add_window(Accumulators<TILE.mr, TILE.vectors>& sums, const StemLayer& layer, int64_t offset,
                            const float*& weights)
{
    constexpr int nr = TILE.vectors * lanes;
    if constexpr (TILE.is_general) {
        for (int64_t ky = 0; ky < layer.kernel; ++ky) {
            const float* x = layer.rows[ky] + offset;
            for (int64_t kx = 0; kx < layer.kernel; ++kx, ++x, weights += nr) add_depth<TILE.stride>(sums, x, weights);
        }
        return;
    }
    MNV2_UNROLL
    for (int64_t ky = 0; ky < kernel_size; ++ky) {
        const float* x = layer.rows[ky] + offset;
        MNV2_UNROLL
        for (int64_t kx = 0; kx < kernel_size; ++kx, ++x, weights += nr) {
            // Neighbouring windows overlap; the compiler is not to keep the columns of both, for want of registers.
            MNV2_OPAQUE(x);
            add_depth<TILE.stride>(sums, x, weights);
        }
    }
}

template <StemTile TILE>
MNV2_INLINE void sum_window(Accumulators<TILE.mr, TILE.vectors>& sums, const StemLayer& layer, int64_t column,
                            const float* weights)
{
    const bool is_long = TILE.is_general && layer.depth() >= long_depth;
    const int64_t sum_channels = is_long ? sum_depth / taps_of(layer.kernel) : layer.in_channels;
    SecondAccumulators<TILE.mr, TILE.vectors> second;
    for (int64_t channel = 0; channel < layer.in_channels; ++channel) {
        if constexpr (TILE.is_general)
            if (channel && channel % sum_channels == 0) second.take(sums, channel == sum_channels);
        add_window<TILE>(sums, layer, channel * layer.channel_stride + column, weights);
    }
    if (is_long) second.give(sums);
}

// Tiles of consecutive output columns; column: the first one's window.
template <StemTile TILE>
void stem_tiles(const StemLayer& layer, int64_t tiles, int64_t column, const float* panel, float* y, int64_t last_lanes)
{
    for (; tiles > 0; --tiles, column += TILE.mr * TILE.stride, y += TILE.mr * layer.epilogue.y_pixel) {
        Accumulators<TILE.mr, TILE.vectors> sums;
        clear(sums);
        sum_window<TILE>(sums, layer, column, panel + 2 * TILE.vectors * lanes);
        finish_tile(sums, panel, layer.epilogue, y, last_lanes, nullptr);
    }
}

using StemTiles = void (*)(const StemLayer&, int64_t, int64_t, const float*, float*, int64_t);

// As tall as pointwise tiles whose float32 sums are in registers; elsewhere sums take three quarters of the registers. For what
// few networks have, larger kernels and 22 input channels or more, a few heights will do.
constexpr int stem_max_mr(int vectors, bool is_general)
{
    if (is_general) return 4;
    return type_of<Stored> == ScalarType::float32 ? max_mr[vectors - 1] : 3 * register_count / (4 * vector_registers * vectors);
}

template <StemTile TALLEST>
constexpr auto stem_kernels = kernels_by_height<StemTiles, TALLEST.mr>([]<int MR>() {
    return stem_tiles<StemTile{
        .stride = TALLEST.stride, .mr = MR, .vectors = TALLEST.vectors, .is_general = TALLEST.is_general}>;
});

template <StemTile TALLEST>
void stem_panel(const StemLayer& layer, int64_t columns, const float* panel, float* y, int64_t last_lanes)
{
    constexpr const auto& kernels = stem_kernels<TALLEST>;
    const int64_t tiles = divide_up(columns, TALLEST.mr);
    const int64_t mr = columns / tiles, higher = columns % tiles, done = higher * (mr + 1);
    if (higher) kernels.of_mr[mr + 1](layer, higher, 0, panel, y, last_lanes);
    kernels.of_mr[mr](layer, tiles - higher, done * TALLEST.stride, panel, y + done * layer.epilogue.y_pixel, last_lanes);
}

template <bool IS_GENERAL, int STRIDE>
void stem_panels(const StemLayer& layer, int64_t columns, int64_t out_channels, const float* packed, float* y)
{
    constexpr StemTile single{.stride = STRIDE, .mr = stem_max_mr(1, IS_GENERAL), .vectors = 1, .is_general = IS_GENERAL};
    constexpr StemTile whole{
        .stride = STRIDE, .mr = stem_max_mr(panel_vectors, IS_GENERAL), .vectors = panel_vectors, .is_general = IS_GENERAL};
    const float* panel = packed;
    for (int64_t channel = 0; channel < out_channels; channel += panel_width) {
        const int64_t channels = out_channels - channel;
        const int64_t last_lanes = lanes_of_last_vector(channels, layer.epilogue);
        if (channels > lanes)
            stem_panel<whole>(layer, columns, panel, y, last_lanes);
        else
            stem_panel<single>(layer, columns, panel, y, last_lanes);
        panel += panel_width * (layer.depth() + 2);
        y += panel_vectors * layer.epilogue.y_vector;
    }
}

template <int STRIDE>
void stem_row(const StemLayer& layer, int64_t columns, int64_t out_channels, const float* packed, float* y)
{
    if (layer.kernel != kernel_size || layer.depth() >= long_depth)
        stem_panels<true, STRIDE>(layer, columns, out_channels, packed, y);
    else
        stem_panels<false, STRIDE>(layer, columns, out_channels, packed, y);
}

// The input rows of a segment, padded with zeros: as many of each channel as a window has, a row standing at its index modulo
// their number.
class StemRows {
public:
    explicit StemRows(const StemTask& task)
        : task_(task), params_(*task.params), row_floats_(task.plan->row_floats), table_(task.packed + task.plan->table)
    {
    }

    int64_t channel_stride() const { return params_.kernel * row_floats_; }

    // The first column of the padded row y.
    const float* row(int64_t y) const { return task_.scratch + slot(y) * row_floats_ + lanes - params_.padding.left; }

    void load(int64_t y)
    {
        float* to = task_.scratch + slot(y) * row_floats_ + lanes;  // the image's first column, on a vector's boundary
        const bool inside = y >= 0 && y < params_.height;
        const int64_t columns = inside ? used_columns() : 0;
        for (int64_t channel = 0; channel < params_.in_channels; ++channel, to += channel_stride()) {
            for (int64_t column = -params_.padding.left; column < 0; ++column) to[column] = 0.0f;
            if (task_.x.is_bytes)
                look_up_channel_row(task_.x, table_ + channel * byte_values, channel, columns, y, to);
            else
                load_channel_row(task_.x, channel, columns, y, to);
            for (int64_t column = columns; column < row_floats_ - lanes; ++column) to[column] = 0.0f;
        }
    }

private:
    int64_t slot(int64_t y) const { return (y + params_.kernel) % params_.kernel; }

    // The last columns of a strided image may lie outside of every window.
    int64_t used_columns() const
    {
        const int64_t room = row_floats_ - lanes;
        return params_.width < room ? params_.width : room;
    }

    const StemTask& task_;
    const StemParams& params_;
    int64_t row_floats_;
    const float* table_;  // what the bytes of an image stand for, if it has bytes
};

// Output rows one after the other, downwards.
class StemSegment {
public:
    StemSegment(const StemTask& task, const Epilogue& epilogue, int64_t first_row)
        : params_(*task.params),
          packed_(task.packed),
          input_(task),
          epilogue_(epilogue),
          out_width_(task.params->out_width()),
          loaded_(top_of(first_row))
    {
    }

    void compute_row(int64_t row, float* y)
    {
        const int64_t top = top_of(row);
        for (; loaded_ < top + params_.kernel; ++loaded_) input_.load(loaded_);
        StemLayer layer{params_.in_channels, params_.kernel, {}, input_.channel_stride(), epilogue_};
        for (int64_t ky = 0; ky < params_.kernel; ++ky) layer.rows[ky] = input_.row(top + ky);
        if (params_.stride == 1)
            stem_row<1>(layer, out_width_, params_.out_channels, packed_, y);
        else
            stem_row<2>(layer, out_width_, params_.out_channels, packed_, y);
    }

private:
    int64_t top_of(int64_t row) const { return row * params_.stride - params_.padding.top; }

    const StemParams& params_;
    const float* packed_;
    StemRows input_;
    Epilogue epilogue_;
    int64_t out_width_, loaded_;
};

void stem(const StemTask& task)
{
    const StemParams& params = *task.params;
    const ResultView& y = task.y;
    const int64_t out_width = params.out_width();
    const bool direct = y.stored == ScalarType::float32;
    float* result = task.scratch + task.plan->result;
    const int64_t plane = direct || !y.blocked ? y.stride_vector : out_width * lanes;
    StemSegment segment(task, {clamp_of(params.activation), y.stride_pixel, plane, y.blocked, 0, curve_of(params.activation)},
                        task.row_begin);
    for (int64_t row = task.row_begin; row < task.row_end; ++row) {
        const int64_t offset = row * out_width * y.stride_pixel;
        float* to = direct ? static_cast<float*>(y.data) + offset : result;
        segment.compute_row(row, to);
        if (!direct && y.blocked)
            store_blocked(result, plane, out_width, params.out_channels, static_cast<Stored*>(y.data) + offset,
                          y.stride_vector);
        else if (!direct)
            store_values(result, out_width * params.out_channels, y.dtype, y.data, offset);
        else if (y.blocked)
            for (int64_t vector = 0; vector < vectors_of(params.out_channels); ++vector)
                round_values(to + vector * y.stride_vector, out_width * lanes, y.dtype);
    }
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
