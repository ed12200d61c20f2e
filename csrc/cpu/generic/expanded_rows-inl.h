// The rows that a block's depthwise convolution reads, in a thread's scratch: the expanded tensor is never anywhere else.
// Without an expand they are the block's input, or a stem's results.
#pragma once

#include <cstdint>
#include <cstring>

#include "cpu/generic/depthwise-inl.h"
#include "cpu/generic/input_rows-inl.h"
#include "cpu/generic/pointwise/pointwise-inl.h"
#include "cpu/generic/rows-inl.h"
#include "cpu/generic/stem-inl.h"
#include "cpu/kernels.h"
#include "cpu/range.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

// Row r stands in slot r modulo the number of slots. Where strips share rows, there is room for all vectors of channels,
// otherwise for a chunk's.
class ExpandedRows {
public:
    explicit ExpandedRows(const BlockTask& task)
        : height_(task.params->height),
          width_(task.params->width),
          slots_(task.plan->expanded_rows),
          row_floats_(width_ * lanes),
          plane_(slots_ * row_floats_),
          chunk_vectors_(task.plan->cuts.chunk_vectors),
          shares_rows_(task.plan->cuts.shares_rows),
          rows_(task.scratch + task.plan->scratch.expanded),
          zeros_(task.scratch + task.plan->scratch.zeros)
    {
        std::memset(zeros_, 0, static_cast<size_t>(row_floats_) * sizeof(float));
    }

    int64_t row_floats() const { return row_floats_; }

    // Floats from a vector of channels to the next.
    int64_t plane() const { return plane_; }

    float* row(int64_t vector, int64_t row) const { return vector_rows(vector) + row % slots_ * row_floats_; }

    // Rows from `row` on that lie together before the slots start over.
    int64_t rows_together(int64_t row) const { return slots_ - row % slots_; }

    DepthwiseInput depthwise_input(int64_t vector) const { return {vector_rows(vector), zeros_, slots_, height_, width_}; }

    // The same for rows of a whole image that lie elsewhere.
    DepthwiseInput depthwise_input_at(const float* image) const { return {image, zeros_, height_, height_, width_}; }

private:
    float* vector_rows(int64_t vector) const { return rows_ + (shares_rows_ ? vector : vector % chunk_vectors_) * plane_; }

    int64_t height_, width_, slots_, row_floats_, plane_, chunk_vectors_;
    bool shares_rows_;
    float *rows_, *zeros_;
};

// The 1x1 expand.
class Expand {
public:
    Expand(const BlockTask& task, const InputRows& input, const ExpandedRows& expanded)
        : input_(input),
          expanded_(expanded),
          layer_{task.params->in_channels, input.plane(), blocked_epilogue(task.params->activation, expanded.plane())},
          packed_(task.packed + task.plan->weights.expand),
          width_(task.params->width),
          channels_(task.params->expanded_channels)
    {
    }

    // Vectors [vectors.begin, vectors.end) of expanded channels at some rows.
    void run(const Range& vectors, const Range& rows) const
    {
        const int64_t last_channel = smaller(vectors.end * lanes, channels_);
        for (int64_t row = rows.begin; row < rows.end;) {
            const int64_t together = smaller(rows.end - row, expanded_.rows_together(row));
            pointwise(layer_, vectors.begin * lanes, last_channel, together * width_, input_.row(row), packed_,
                      expanded_.row(vectors.begin, row), nullptr);
            row += together;
        }
    }

private:
    const InputRows& input_;
    const ExpandedRows& expanded_;
    PointwiseLayer layer_;
    const float* packed_;
    int64_t width_, channels_;
};

// Copies rows of the block's input to the place of expanded rows.
void copy_rows(const BlockTask& task, const Range& rows, const ExpandedRows& expanded)
{
    const int64_t channels = task.params->in_channels, width = task.params->width;
    for (int64_t row = rows.begin; row < rows.end; ++row) {
        const BlockedRow<float> to{expanded.row(0, row), expanded.plane()};
        if (task.x.blocked)
            load_blocked(task.x, channels, row * width, width, to);
        else
            load_row(task.x, channels, width, row, to);
    }
}

// Computes rows of a stem's results in the place of expanded rows, rounded to what a tensor of the block's dtype would hold.
void compute_stem_rows(const BlockTask& task, StemSegment& stem, const Range& rows, const ExpandedRows& expanded)
{
    for (int64_t row = rows.begin; row < rows.end; ++row) {
        float* const to = expanded.row(0, row);
        stem.compute_row(row, to);
        for (int64_t vector = 0; vector < vectors_of(task.params->in_channels); ++vector)
            round_values(to + vector * expanded.plane(), expanded.row_floats(), task.y.dtype);
    }
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
