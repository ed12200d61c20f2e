// A block's depthwise results, blocked: of a strip in a thread's scratch, or of a whole image in memory that threads share.
#pragma once

#include <cstdint>

#include "cpu/generic/depthwise_windows-inl.h"
#include "cpu/generic/expanded_rows-inl.h"
#include "cpu/kernels.h"
#include "cpu/range.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

class DepthwiseOut {
public:
    explicit DepthwiseOut(const BlockTask& task)
        : data_(
              static_cast<Stored*>(task.depthwise_out ? task.depthwise_out : task.scratch + task.plan->scratch.depthwise_out)),
          is_whole_(task.depthwise_out != nullptr),
          width_(task.params->out_width()),
          row_elements_(width_ * lanes),
          plane_(is_whole_ ? task.plan->depthwise_out_plane : task.plan->cuts.strip_rows * row_elements_)
    {
    }

    // From here on the rows of a strip that begins with this one, where there is no room for the whole image.
    void start_strip(int64_t first_row) { first_row_ = is_whole_ ? 0 : first_row; }

    // A vector of channels at a row.
    Stored* vector(int64_t vector, int64_t row) const { return data_ + vector * plane_ + (row - first_row_) * row_elements_; }

    const Stored* row(int64_t row) const { return data_ + (row - first_row_) * row_elements_; }

    int64_t width() const { return width_; }

    // Elements from a vector of channels to the next.
    int64_t plane() const { return plane_; }

private:
    Stored* data_;
    bool is_whole_;
    int64_t width_, row_elements_, plane_;
    int64_t first_row_ = 0;
};

// Whether the depthwise convolution reads the block's input where it is.
bool reads_in_place(const BlockTask& task)
{
    return !task.params->has_expand && task.x.blocked && type_of<Stored> == ScalarType::float32;
}

// The depthwise convolution.
class Depthwise {
public:
    Depthwise(const BlockTask& task, const ExpandedRows& expanded, const DepthwiseOut& depthwise_out)
        : expanded_(expanded),
          depthwise_out_(depthwise_out),
          stride_(task.params->stride),
          padding_(task.params->padding),
          activation_(task.params->activation_behind_depthwise()),
          kernel_(depthwise_kernel(task.params->kernel, task.params->stride, curve_of(activation_))),
          packed_floats_((task.params->taps() + 2) * lanes),
          packed_(task.packed + task.plan->weights.depthwise),
          x_(reads_in_place(task) ? static_cast<const float*>(task.x.data) : nullptr),
          x_plane_(task.x.stride_vector)
    {
    }

    // Vectors [vectors.begin, vectors.end) of expanded channels at a strip's output rows.
    void run(const Range& vectors, const Range& strip) const
    {
        const DepthwiseWindow window{strip.begin * stride_ - padding_.top,
                                     strip.count(),
                                     depthwise_out_.width(),
                                     padding_.left,
                                     clamp_of(activation_),
                                     curve_of(activation_)};
        for (int64_t vector = vectors.begin; vector < vectors.end; ++vector) {
            const DepthwiseInput input =
                x_ ? expanded_.depthwise_input_at(x_ + vector * x_plane_) : expanded_.depthwise_input(vector);
            kernel_(input, window, packed_ + vector * packed_floats_, depthwise_out_.vector(vector, strip.begin));
        }
    }

private:
    const ExpandedRows& expanded_;
    const DepthwiseOut& depthwise_out_;
    int64_t stride_;
    Padding padding_;
    Activation activation_;
    DepthwiseKernel kernel_;
    int64_t packed_floats_;  // of a vector
    const float* packed_;
    const float* x_;  // the block's input where it is read in place, or null
    int64_t x_plane_;
};

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
