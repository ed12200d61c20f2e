// A block's 1x1 project, with its shortcut, and its results' way to memory.
#pragma once

#include <cstdint>

#include "cpu/generic/depthwise_out-inl.h"
#include "cpu/generic/input_rows-inl.h"
#include "cpu/generic/pointwise/pointwise-inl.h"
#include "cpu/generic/rows-inl.h"
#include "cpu/kernels.h"
#include "cpu/range.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

class Project {
public:
    Project(const BlockTask& task, const InputRows& input, const DepthwiseOut& depthwise_out)
        : task_(task),
          params_(*task.params),
          input_(input),
          depthwise_out_(depthwise_out),
          result_(task.scratch + task.plan->scratch.result),
          out_width_(params_.out_width())
    {
    }

    // Output channels [channels.begin, channels.end) at a strip's rows.
    void run(const Range& strip, const Range& channels) const
    {
        const ResultView& y = task_.y;
        const int64_t pixels = strip.count() * out_width_;
        const int64_t offset = strip.begin * out_width_ * y.stride_pixel + channels.begin / lanes * y.stride_vector;
        if (y.stored == ScalarType::float32) {
            float* to = static_cast<float*>(y.data) + offset;
            compute(strip, channels, {to, y.stride_pixel, y.stride_vector});
            round_blocked(to, pixels, channels);
        } else if (y.blocked) {
            compute(strip, channels, {result_, lanes, pixels * lanes});
            store_blocked(result_, pixels * lanes, pixels, channels.count(), static_cast<Stored*>(y.data) + offset,
                          y.stride_vector);
        } else {
            compute(strip, channels, {result_, channels.count(), lanes});
            store_pixels(pixels, channels, offset);
        }
    }

private:
    // Float32 results; strides in floats.
    struct Results {
        float* data;
        int64_t stride_pixel, stride_vector;
    };

    void compute(const Range& strip, const Range& channels, const Results& to) const
    {
        const int64_t first_vector = channels.begin / lanes;
        const PointwiseLayer layer{params_.expanded_channels,
                                   depthwise_out_.plane(),
                                   {clamp_of(params_.project_activation), to.stride_pixel, to.stride_vector, task_.y.blocked,
                                    input_.plane(), curve_of(params_.project_activation)}};
        const Stored* residual = params_.has_residual ? input_.row(strip.begin) + first_vector * input_.plane() : nullptr;
        pointwise(layer, channels.begin, channels.end, strip.count() * out_width_, depthwise_out_.row(strip.begin),
                  task_.packed + task_.plan->weights.project, to.data, residual);
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
    const InputRows& input_;
    const DepthwiseOut& depthwise_out_;
    float* result_;
    int64_t out_width_;
};

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
