// The fused block: strips of output rows, the expanded tensor only ever in a thread's scratch.
//
//   input rows -> x_rows (blocked) -> expand -> ring -> depthwise -> middle -> project -> y
//
// Blocked inputs are read in place. Without an expand the ring holds input rows, or a stem's results.
#pragma once

#include <cstdint>
#include <cstring>

#include "cpu/generic/depthwise-inl.h"
#include "cpu/generic/pointwise/pointwise-inl.h"
#include "cpu/generic/rows-inl.h"
#include "cpu/generic/stem-inl.h"
#include "cpu/kernels.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

struct Range {
    int64_t begin, end;
    int64_t count() const { return end - begin; }
};

class BlockSegment {
public:
    // stem: computes the input rows, or null.
    explicit BlockSegment(const BlockTask& task, StemSegment* stem = nullptr)
        : task_(task),
          params_(*task.params),
          plan_(*task.plan),
          cuts_(task.plan->cuts),
          stem_(stem),
          packed_(task.packed),
          x_rows_(reinterpret_cast<Stored*>(task.scratch + plan_.scratch.x_rows)),
          middle_(static_cast<Stored*>(task.middle ? task.middle : task.scratch + plan_.scratch.middle)),
          ring_(task.scratch + plan_.scratch.ring),
          result_(task.scratch + plan_.scratch.result),
          zeros_(task.scratch + plan_.scratch.zeros),
          out_width_(params_.out_width()),
          row_floats_(params_.width * lanes),
          plane_(plan_.ring_rows * row_floats_),
          x_plane_(task.x.blocked ? task.x.stride_vector : plane_)
    {
        std::memset(zeros_, 0, static_cast<size_t>(row_floats_) * sizeof(float));
    }

    // All of the output rows [begin, end).
    void run()
    {
        for (int64_t row = task_.begin; row < task_.end; row += cuts_.strip_rows) {
            const Range strip{row, smaller(row + cuts_.strip_rows, task_.end)};
            const bool first = row == task_.begin;
            const Range needed = input_rows(strip);
            take_input(needed, first ? needed.begin : taken_end_);
            fill_middle(strip, {first || !cuts_.shares_rows ? needed.begin : taken_end_, needed.end}, all_vectors());
            taken_end_ = needed.end;
            project(strip, {0, params_.out_channels});
        }
    }

    // Vectors [begin, end) of the whole image's middle.
    void expand_and_depthwise()
    {
        const Range strip = whole_image(), needed = input_rows(strip);
        take_input(needed, needed.begin);
        fill_middle(strip, needed, {task_.begin, task_.end});
    }

    // The convolutions one after another over the whole image, whose expanded tensors ring and middle then hold. Expand and
    // project take so many rows at a time, as otherwise each would read its input once a panel.
    void run_unfused(int64_t strip_rows)
    {
        const Range image = whole_image();
        for_each_strip(input_rows(image), strip_rows, [&](const Range& rows) {
            take_input(rows, rows.begin);
            if (params_.has_expand) expand(all_vectors(), rows);
        });
        depthwise(all_vectors(), image);
        for_each_strip(image, strip_rows, [&](const Range& strip) {
            if (params_.has_residual) load_x_rows(strip, strip.begin);
            project(strip, {0, params_.out_channels});
        });
    }

    // Output channels [begin, end) of the whole image.
    void project()
    {
        const Range strip = whole_image();
        if (params_.has_residual) take_input(input_rows(strip), 0);
        project(strip, {task_.begin, task_.end});
    }

private:
    Range whole_image() const { return {0, params_.out_height()}; }
    Range all_vectors() const { return {0, vectors_of(params_.expanded_channels)}; }

    template <class Function>
    static void for_each_strip(const Range& rows, int64_t strip_rows, const Function& function)
    {
        for (int64_t row = rows.begin; row < rows.end; row += strip_rows)
            function(Range{row, smaller(row + strip_rows, rows.end)});
    }

    Range input_rows(const Range& strip) const
    {
        const int64_t begin = strip.begin * params_.stride - params_.padding.top;
        const int64_t end = (strip.end - 1) * params_.stride - params_.padding.top + kernel_size;
        return {larger(begin, 0), smaller(end, params_.height)};
    }

    // The expanded rows of a vector of channels. A ring that the strips share holds all vectors, otherwise it holds a chunk.
    float* ring_plane(int64_t vector) const
    {
        return ring_ + (cuts_.shares_rows ? vector : vector % cuts_.chunk_vectors) * plane_;
    }

    float* ring_row(int64_t vector, int64_t row) const { return ring_plane(vector) + row % plan_.ring_rows * row_floats_; }

    // Brings the needed input rows in, those from row fresh on for the first time.
    void take_input(const Range& needed, int64_t fresh)
    {
        if (stem_) {
            for (int64_t row = fresh; row < needed.end; ++row) compute_stem_row(row);
            return;
        }
        if (!params_.has_expand && !reads_in_place())
            for (int64_t row = fresh; row < needed.end; ++row) load_ring_row(row);
        if (params_.has_expand || params_.has_residual) load_x_rows(needed, fresh);
    }

    // The same to x_rows, unless they can be read where they are.
    void load_x_rows(const Range& needed, int64_t fresh)
    {
        if (task_.x.blocked) return;
        const bool again = params_.has_residual || !cuts_.shares_rows;
        const int64_t begin = again ? needed.begin : fresh;
        keep_rows({begin, fresh});
        x_begin_ = begin;
        for (int64_t row = fresh; row < needed.end; ++row)
            load_row(task_.x, params_.in_channels, params_.width, row,
                     BlockedRow<Stored>{x_rows_ + (row - x_begin_) * row_floats_, plane_});
    }

    void load_ring_row(int64_t row)
    {
        const BlockedRow<float> to{ring_row(0, row), plane_};
        if (task_.x.blocked)
            load_blocked(task_.x, params_.in_channels, row * params_.width, params_.width, to);
        else
            load_row(task_.x, params_.in_channels, params_.width, row, to);
    }

    void compute_stem_row(int64_t row)
    {
        float* to = ring_row(0, row);
        stem_->compute_row(row, to);
        for (int64_t vector = 0; vector < vectors_of(params_.in_channels); ++vector)
            round_values(to + vector * plane_, row_floats_, task_.y.dtype);
    }

    const Stored* x_row(int64_t row) const
    {
        if (task_.x.blocked) return static_cast<const Stored*>(task_.x.data) + row * row_floats_;
        return x_rows_ + (row - x_begin_) * row_floats_;
    }

    // Moves rows that are needed again to the front of x_rows.
    void keep_rows(const Range& rows)
    {
        if (rows.begin == x_begin_ || rows.count() <= 0) return;
        for (int64_t vector = 0; vector < vectors_of(params_.in_channels); ++vector)
            std::memmove(x_rows_ + vector * plane_, x_row(rows.begin) + vector * plane_,
                         static_cast<size_t>(rows.count() * row_floats_) * sizeof(Stored));
    }

    // fresh: the rows to expand.
    void fill_middle(const Range& strip, const Range& fresh, const Range& vectors)
    {
        middle_begin_ = strip.begin;
        for (int64_t vector = vectors.begin; vector < vectors.end; vector += cuts_.chunk_vectors) {
            const Range chunk{vector, smaller(vector + cuts_.chunk_vectors, vectors.end)};
            if (params_.has_expand) expand(chunk, fresh);
            depthwise(chunk, strip);
        }
    }

    void expand(const Range& chunk, const Range& rows)
    {
        const PointwiseLayer layer{params_.in_channels, x_plane_, blocked_epilogue(params_.activation, plane_)};
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

    void depthwise(const Range& chunk, const Range& strip)
    {
        const DepthwiseWindow window{strip.begin * params_.stride - params_.padding.top, strip.count(), out_width_,
                                     params_.padding.left, clamp_of(params_.activation)};
        for (int64_t vector = chunk.begin; vector < chunk.end; ++vector) {
            const DepthwiseInput input = depthwise_input(vector);
            const float* packed = packed_ + plan_.weights.depthwise + vector * (kernel_taps + 2) * lanes;
            Stored* y = middle_ + vector * middle_plane();
            if (params_.stride == 1)
                depthwise_rows<1>(input, window, packed, y);
            else
                depthwise_rows<2>(input, window, packed, y);
        }
    }

    // Whether the depthwise convolution can take the block's input where it is.
    bool reads_in_place() const
    {
        return !params_.has_expand && task_.x.blocked && !stem_ && type_of<Stored> == ScalarType::float32;
    }

    // The ring, or the block's input: a ring of all rows.
    DepthwiseInput depthwise_input(int64_t vector) const
    {
        if (!reads_in_place()) return {ring_plane(vector), zeros_, plan_.ring_rows, params_.height, params_.width};
        const auto* x = static_cast<const float*>(task_.x.data);
        return {x + vector * x_plane_, zeros_, params_.height, params_.height, params_.width};
    }

    Stored* middle_row(int64_t row) const { return middle_ + (row - middle_begin_) * out_width_ * lanes; }

    int64_t middle_plane() const { return cuts_.strip_rows * out_width_ * lanes; }

    void project(const Range& strip, const Range& channels)
    {
        const ResultView& y = task_.y;
        const int64_t pixels = strip.count() * out_width_;
        const int64_t offset = strip.begin * out_width_ * y.stride_pixel + channels.begin / lanes * y.stride_vector;
        if (y.stored == ScalarType::float32) {
            float* to = static_cast<float*>(y.data) + offset;
            compute_project(strip, channels, to, y.stride_pixel, y.stride_vector);
            round_blocked(to, pixels, channels);
        } else if (y.blocked) {
            compute_project(strip, channels, result_, lanes, pixels * lanes);
            store_blocked(result_, pixels * lanes, pixels, channels.count(), static_cast<Stored*>(y.data) + offset,
                          y.stride_vector);
        } else {
            compute_project(strip, channels, result_, channels.count(), lanes);
            store_pixels(pixels, channels, offset);
        }
    }

    // to: floats, so many from a pixel and from a vector of channels to the next.
    void compute_project(const Range& strip, const Range& channels, float* to, int64_t pixel, int64_t vector)
    {
        const PointwiseLayer layer{params_.expanded_channels,
                                   middle_plane(),
                                   {clamp_of(params_.project_activation), pixel, vector, task_.y.blocked, x_plane_}};
        const Stored* residual = params_.has_residual ? x_row(strip.begin) + channels.begin / lanes * x_plane_ : nullptr;
        pointwise(layer, channels.begin, channels.end, strip.count() * out_width_, middle_row(strip.begin),
                  packed_ + plan_.weights.project, to, residual);
    }

    void round_blocked(float* values, int64_t pixels, const Range& channels) const
    {
        if (task_.y.dtype == ScalarType::float32) return;
        for (int64_t vector = 0; vector < vectors_of(channels.count()); ++vector)
            round_values(values + vector * task_.y.stride_vector, pixels * lanes, task_.y.dtype);
    }

    void store_pixels(int64_t pixels, const Range& channels, int64_t offset) const
    {
        const ResultView& y = task_.y;
        if (channels.count() == y.stride_pixel) return store_values(result_, pixels * y.stride_pixel, y.dtype, y.data, offset);
        for (int64_t pixel = 0; pixel < pixels; ++pixel)
            store_values(result_ + pixel * channels.count(), channels.count(), y.dtype, y.data,
                         offset + pixel * y.stride_pixel);
    }

    const BlockTask& task_;
    const InvertedResidualParams& params_;
    const BlockPlan& plan_;
    const BlockCuts& cuts_;
    StemSegment* stem_;
    const float* packed_;
    Stored *x_rows_, *middle_;
    float *ring_, *result_, *zeros_;
    int64_t out_width_, row_floats_, plane_, x_plane_;
    int64_t x_begin_ = 0, taken_end_ = 0, middle_begin_ = 0;
};

void inverted_residual(const BlockTask& task)
{
    BlockSegment(task).run();
}

void unfused_inverted_residual(const BlockTask& task, int64_t strip_rows)
{
    BlockSegment(task).run_unfused(strip_rows);
}

void expand_and_depthwise(const BlockTask& task)
{
    BlockSegment(task).expand_and_depthwise();
}

void project(const BlockTask& task)
{
    BlockSegment(task).project();
}

void stem_and_block(const StemTask& stem_task, const BlockTask& task)
{
    const int64_t first_row = task.begin * task.params->stride - task.params->padding.top;
    const int64_t plane = task.plan->ring_rows * task.params->width * lanes;
    StemSegment stem(stem_task, blocked_epilogue(stem_task.params->activation, plane), first_row > 0 ? first_row : 0);
    BlockSegment(task, &stem).run();
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
