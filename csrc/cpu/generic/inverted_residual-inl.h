// The fused block: strips of output rows, the expanded tensor only ever in a thread's scratch.
//
//   x -> InputRows -> Expand -> ExpandedRows -> Depthwise -> DepthwiseOut -> Project -> y
#pragma once

#include <cstdint>

#include "cpu/generic/depthwise_out-inl.h"
#include "cpu/generic/expanded_rows-inl.h"
#include "cpu/generic/input_rows-inl.h"
#include "cpu/generic/project-inl.h"
#include "cpu/generic/stem-inl.h"
#include "cpu/kernels.h"
#include "cpu/range.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

// Calls function(Range) for all numbers, `step` of them at a time, the first ones first or the last ones.
template <class Function>
MNV2_INLINE void for_each_part(const Range& all, int64_t step, bool backwards, const Function& function)
{
    const int64_t parts = divide_up(all.count(), step);
    for (int64_t i = 0; i < parts; ++i) {
        const int64_t begin = all.begin + (backwards ? parts - 1 - i : i) * step;
        function(Range{begin, smaller(begin + step, all.end)});
    }
}

// The tensors of a task, and the convolutions from one to the next.
class Block {
public:
    // stem: computes the input rows of a block without expand and shortcut, or null.
    explicit Block(const BlockTask& task, StemSegment* stem = nullptr)
        : task_(task),
          params_(*task.params),
          stem_(stem),
          input_(task),
          expanded_(task),
          depthwise_out_(task),
          expand_(task, input_, expanded_),
          depthwise_(task, expanded_, depthwise_out_),
          project_(task, input_, depthwise_out_)
    {
    }
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;

    Range all_rows() const { return {0, params_.out_height()}; }
    Range all_vectors() const { return {0, vectors_of(params_.expanded_channels)}; }
    Range all_channels() const { return {0, params_.out_channels}; }

    // The input rows that some output rows read.
    Range input_rows(const Range& rows) const
    {
        const int64_t begin = rows.begin * params_.stride - params_.padding.top;
        const int64_t end = (rows.end - 1) * params_.stride - params_.padding.top + params_.kernel;
        return {larger(begin, 0), smaller(end, params_.height)};
    }

    // Brings the needed input rows in, those from row `fresh` on for the first time.
    void take_input(const Range& needed, int64_t fresh)
    {
        if (stem_) return compute_stem_rows(task_, *stem_, {fresh, needed.end}, expanded_);
        if (!params_.has_expand && !reads_in_place(task_)) copy_rows(task_, {fresh, needed.end}, expanded_);
        if (params_.has_expand || params_.has_residual) input_.load(needed, fresh);
    }

    void expand(const Range& vectors, const Range& rows) const
    {
        if (params_.has_expand) expand_.run(vectors, rows);
    }

    void depthwise(const Range& vectors, const Range& strip) const { depthwise_.run(vectors, strip); }

    // Expand and depthwise, chunk by chunk. fresh: the rows to expand.
    void compute_depthwise_out(const Range& strip, const Range& fresh, const Range& vectors, bool backwards)
    {
        depthwise_out_.start_strip(strip.begin);
        for_each_part(vectors, task_.plan->cuts.chunk_vectors, backwards, [&](const Range& chunk) {
            expand(chunk, fresh);
            depthwise(chunk, strip);
        });
    }

    // Expand and depthwise of a few vectors over the whole image, in strips that share expanded rows.
    void compute_chunk(const Range& vectors)
    {
        const int64_t strip_rows = task_.plan->cuts.strip_rows;
        const int64_t end = params_.out_height();
        int64_t taken_end = 0;  // of the input rows
        for (int64_t row = 0; row < end; row += strip_rows) {
            const Range strip{row, smaller(row + strip_rows, end)}, needed = input_rows(strip);
            const int64_t fresh = row == 0 ? needed.begin : taken_end;
            take_input(needed, fresh);
            expand(vectors, {fresh, needed.end});
            depthwise(vectors, strip);
            taken_end = needed.end;
        }
    }

    // Multiplies each channel of a strip's depthwise results with its factor, in place: a copy would take as much of the cache.
    void multiply_depthwise_out(const Range& strip, const float* factors) const
    {
        const int64_t elements = strip.count() * depthwise_out_.width() * lanes;
        for (int64_t vector = 0; vector < vectors_of(params_.expanded_channels); ++vector) {
            Stored* const results = depthwise_out_.vector(vector, strip.begin);
            const Vec factor = load(factors + vector * lanes);
            for (int64_t i = 0; i < elements; i += lanes) narrow(results + i, mul(widen(results + i), factor));
        }
    }

    void project(const Range& strip, const Range& channels) const { project_.run(strip, channels); }

    // All output channels, the last panel first.
    void project_backwards(const Range& strip) const
    {
        for_each_part(all_channels(), panel_width, true, [&](const Range& channels) { project(strip, channels); });
    }

    // Brings in what the shortcut adds to some rows, where nothing else has.
    void take_shortcut(const Range& strip)
    {
        if (params_.has_residual) input_.load(strip, strip.begin);
    }

private:
    const BlockTask& task_;
    const InvertedResidualParams& params_;
    StemSegment* stem_;
    InputRows input_;
    ExpandedRows expanded_;
    DepthwiseOut depthwise_out_;
    Expand expand_;
    Depthwise depthwise_;
    Project project_;
};

// Output rows [task.begin, task.end).
void compute_strips(const BlockTask& task, Block& block)
{
    const BlockCuts& cuts = task.plan->cuts;
    int64_t taken_end = 0;  // of the input rows
    bool backwards = false;
    for (int64_t row = task.begin; row < task.end; row += cuts.strip_rows, backwards = cuts.alternates && !backwards) {
        const Range strip{row, smaller(row + cuts.strip_rows, task.end)};
        const Range needed = block.input_rows(strip);
        const bool first = row == task.begin;
        block.take_input(needed, first ? needed.begin : taken_end);
        block.compute_depthwise_out(strip, {first || !cuts.shares_rows ? needed.begin : taken_end, needed.end},
                                    block.all_vectors(), backwards);
        taken_end = needed.end;
        if (backwards)
            block.project_backwards(strip);
        else
            block.project(strip, block.all_channels());
    }
}

void inverted_residual(const BlockTask& task)
{
    Block block(task);
    compute_strips(task, block);
}

// Vectors [task.begin, task.end) of the whole image's depthwise results.
void expand_and_depthwise(const BlockTask& task)
{
    Block block(task);
    const Range rows = block.all_rows(), needed = block.input_rows(rows);
    block.take_input(needed, needed.begin);
    block.compute_depthwise_out(rows, needed, {task.begin, task.end}, false);
}

// Output channels [task.begin, task.end) of the whole image.
void project(const BlockTask& task)
{
    Block block(task);
    block.take_shortcut(block.all_rows());
    block.project(block.all_rows(), {task.begin, task.end});
}

void stem_and_block(const StemTask& stem_task, const BlockTask& task)
{
    const int64_t first_row = task.begin * task.params->stride - task.params->padding.top;
    const int64_t plane = task.plan->expanded_rows * task.params->width * lanes;
    StemSegment stem(stem_task, blocked_epilogue(stem_task.params->activation, plane), larger(first_row, 0));
    Block block(task, &stem);
    compute_strips(task, block);
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
