// The fused block: strips of output rows, the expanded tensor only ever in a thread's scratch.
//
//   input rows -> x_rows (blocked) -> expand -> ring -> depthwise -> middle -> project -> y
#pragma once

#include <cstdint>
#include <cstring>

#include "cpu/depthwise-inl.h"
#include "cpu/kernels.h"
#include "cpu/pointwise-inl.h"
#include "cpu/rows-inl.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

struct RowRange {
    int64_t begin, end;
    int64_t count() const { return end - begin; }
};

class BlockSegment {
public:
    explicit BlockSegment(const BlockTask& task)
        : task_(task),
          params_(*task.params),
          plan_(*task.plan),
          cuts_(task.plan->cuts),
          packed_(task.packed),
          x_rows_(task.scratch + plan_.scratch.x_rows),
          ring_(task.scratch + plan_.scratch.ring),
          middle_(task.scratch + plan_.scratch.middle),
          result_(task.scratch + plan_.scratch.result),
          zeros_(task.scratch + plan_.scratch.zeros),
          out_width_(params_.out_width()),
          row_floats_(params_.width * lanes),
          plane_(plan_.ring_rows * row_floats_)
    {
    }

    void run()
    {
        std::memset(zeros_, 0, static_cast<size_t>(row_floats_) * sizeof(float));
        const int64_t blocks = vectors_of(params_.expanded_channels);
        for (int64_t row = task_.row_begin; row < task_.row_end; row += cuts_.strip_rows) {
            const RowRange strip{row, smaller(row + cuts_.strip_rows, task_.row_end)};
            const RowRange needed = input_rows(strip);
            take_input(strip, needed);
            const RowRange fresh{cuts_.shares_rows && row != task_.row_begin ? expanded_end_ : needed.begin, needed.end};
            for (int64_t block = 0; block < blocks; block += cuts_.chunk_blocks) {
                const RowRange chunk{block, smaller(block + cuts_.chunk_blocks, blocks)};
                if (params_.has_expand) expand(chunk, fresh);
                depthwise(chunk, strip);
            }
            expanded_end_ = needed.end;
            project(strip);
        }
    }

private:
    static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
    static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

    RowRange input_rows(const RowRange& strip) const
    {
        const int64_t begin = strip.begin * params_.stride - params_.padding.top;
        const int64_t end = (strip.end - 1) * params_.stride - params_.padding.top + kernel_size;
        return {larger(begin, 0), smaller(end, params_.height)};
    }

    // Where an expanded row of a block of channels lies. A ring that the strips share holds all blocks, otherwise it holds
    // a chunk.
    float* ring_row(int64_t block, int64_t row) const
    {
        const int64_t held = cuts_.shares_rows ? block : block % cuts_.chunk_blocks;
        return ring_ + held * plane_ + row % plan_.ring_rows * row_floats_;
    }

    // Brings the input rows in that the strip needs and an earlier one has not brought.
    void take_input(const RowRange& strip, const RowRange& needed)
    {
        const bool first = strip.begin == task_.row_begin;
        const RowRange fresh{first ? needed.begin : loaded_end_, needed.end};
        loaded_end_ = needed.end;
        if (!params_.has_expand)
            for (int64_t row = fresh.begin; row < fresh.end; ++row)
                load_row(task_.x, params_.in_channels, params_.width, row, {ring_row(0, row), plane_});
        if (!params_.has_expand && !params_.has_residual) return;

        const bool again = params_.has_residual || !cuts_.shares_rows;
        const int64_t begin = again ? needed.begin : fresh.begin;
        if (!first) keep_rows({begin, fresh.begin});
        x_begin_ = begin;
        for (int64_t row = fresh.begin; row < fresh.end; ++row)
            load_row(task_.x, params_.in_channels, params_.width, row, {x_row(row), plane_});
    }

    float* x_row(int64_t row) const { return x_rows_ + (row - x_begin_) * row_floats_; }

    // Moves rows that are needed again to the front of x_rows.
    void keep_rows(const RowRange& rows)
    {
        if (rows.begin == x_begin_ || rows.count() <= 0) return;
        const int64_t blocks = vectors_of(params_.in_channels);
        for (int64_t block = 0; block < blocks; ++block)
            std::memmove(x_rows_ + block * plane_, x_row(rows.begin) + block * plane_,
                         static_cast<size_t>(rows.count() * row_floats_) * sizeof(float));
    }

    void expand(const RowRange& chunk, const RowRange& rows)
    {
        const PointwiseLayer layer{params_.in_channels, plane_, {clamp_of(params_.activation), lanes, plane_, true, 0}};
        const int64_t last_channel = smaller(chunk.end * lanes, params_.expanded_channels);
        const float* packed = packed_ + plan_.weights.expand;
        for (int64_t row = rows.begin; row < rows.end;) {
            // As many rows as lie together before the ring starts over.
            const int64_t together = smaller(rows.end - row, plan_.ring_rows - row % plan_.ring_rows);
            pointwise(layer, chunk.begin * lanes, last_channel, together * params_.width, x_row(row), packed,
                      ring_row(chunk.begin, row), nullptr);
            row += together;
        }
    }

    void depthwise(const RowRange& chunk, const RowRange& strip)
    {
        for (int64_t block = chunk.begin; block < chunk.end; ++block) {
            const float* packed = packed_ + plan_.weights.depthwise + block * (kernel_taps + 2) * lanes;
            float* y = middle_ + block * middle_plane();
            for (int64_t row = strip.begin; row < strip.end; ++row, y += out_width_ * lanes) {
                DepthwiseRow input{{}, params_.width, out_width_, params_.padding.left, clamp_of(params_.activation)};
                for (int64_t ky = 0; ky < kernel_size; ++ky) {
                    const int64_t source = row * params_.stride - params_.padding.top + ky;
                    input.rows[ky] = source >= 0 && source < params_.height ? ring_row(block, source) : zeros_;
                }
                if (params_.stride == 1)
                    depthwise_row<1>(input, packed, y);
                else
                    depthwise_row<2>(input, packed, y);
            }
        }
    }

    int64_t middle_plane() const { return cuts_.strip_rows * out_width_ * lanes; }

    void project(const RowRange& strip)
    {
        const bool direct = task_.x.dtype == ScalarType::float32;
        const int64_t pixels = strip.count() * out_width_, offset = strip.begin * out_width_ * params_.out_channels;
        float* y = direct ? static_cast<float*>(task_.y) + offset : result_;
        const PointwiseLayer layer{params_.expanded_channels,
                                   middle_plane(),
                                   {clamp_of(params_.project_activation), params_.out_channels, lanes, false, plane_}};
        pointwise(layer, 0, params_.out_channels, pixels, middle_, packed_ + plan_.weights.project, y,
                  params_.has_residual ? x_row(strip.begin) : nullptr);
        if (!direct) store_values(result_, pixels * params_.out_channels, task_.x.dtype, task_.y, offset);
    }

    const BlockTask& task_;
    const InvertedResidualParams& params_;
    const BlockPlan& plan_;
    const BlockCuts& cuts_;
    const float* packed_;
    float *x_rows_, *ring_, *middle_, *result_, *zeros_;
    int64_t out_width_, row_floats_, plane_;
    int64_t x_begin_ = 0, loaded_end_ = 0, expanded_end_ = 0;
};

void inverted_residual(const BlockTask& task)
{
    BlockSegment(task).run();
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
