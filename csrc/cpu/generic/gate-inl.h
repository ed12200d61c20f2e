// A block with a gate, in two passes over an image, since the gate is made of the means of all pixels: expand and depthwise,
// whose results are kept whole, then the project of what the gate makes of them. Expanded rows are only ever in a thread's
// scratch.
//
//   x -> InputRows -> Expand -> ExpandedRows -> Depthwise -> DepthwiseOut (whole) -> means
//   means -> squeeze -> excite -> factors
//   DepthwiseOut (whole) * factors, in place, a strip at a time -> Project -> y
#pragma once

#include <cstdint>

#include "cpu/generic/curves-inl.h"
#include "cpu/generic/head-inl.h"
#include "cpu/generic/inverted_residual-inl.h"
#include "cpu/kernels.h"
#include "cpu/range.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

// The two layers of a gate, on the means of one image.
class Gate {
public:
    explicit Gate(const BlockTask& task)
        : params_(*task.params),
          packed_(task.packed),
          input_(reinterpret_cast<Stored*>(task.scratch + task.plan->scratch.gate_input)),
          squeezed_(task.scratch + task.plan->scratch.squeezed),
          factors_(task.scratch + task.plan->scratch.factors)
    {
        const BlockOffsets& weights = task.plan->weights;
        const int64_t expanded = params_.expanded_channels, squeezed = params_.squeezed_channels;
        multiply({task.means, expanded}, weights.squeeze, squeezed, params_.squeeze_activation, squeezed_);
        multiply({squeezed_, squeezed}, weights.excite, expanded, Activation::none, factors_);
        activate(factors_, vectors_of(expanded) * lanes);
    }

    // For each expanded channel.
    const float* factors() const { return factors_; }

private:
    struct Input {
        const float* data;
        int64_t channels;
    };

    // A pointwise layer on one pixel.
    void multiply(const Input& x, int64_t weights, int64_t channels, Activation activation, float* y) const
    {
        for (int64_t i = 0; i < vectors_of(x.channels) * lanes; i += lanes) narrow(input_ + i, load(x.data + i));
        const PointwiseLayer layer{x.channels, lanes, blocked_epilogue(activation, lanes)};
        pointwise(layer, 0, channels, 1, input_, packed_ + weights, y, nullptr);
    }

    void activate(float* factors, int64_t count) const
    {
        for (int64_t i = 0; i < count; i += lanes / vector_registers) {
            const Register x = load_register(factors + i);
            const bool is_exact = params_.excite_activation == GateActivation::sigmoid;
            store_register(factors + i, is_exact ? sigmoid(x) : hardsigmoid(x));
        }
    }

    const InvertedResidualParams& params_;
    const float* packed_;
    Stored* input_;
    float *squeezed_, *factors_;
};

// Means of an image's pixels, a vector of channels each, in an order that does not depend on threads.
void take_means(const BlockTask& task, const DepthwiseOut& whole, const Range& vectors)
{
    const int64_t pixels = task.params->out_height() * task.params->out_width();
    for (int64_t vector = vectors.begin; vector < vectors.end; ++vector) {
        double sums[lanes] = {};
        add_pixels(whole.vector(vector, 0), pixels, 1, sums);
        for (int64_t lane = 0; lane < lanes; ++lane)
            task.means[vector * lanes + lane] = static_cast<float>(sums[lane] / static_cast<double>(pixels));
    }
}

// Vectors [task.begin, task.end) of the whole image's depthwise results, and their means.
void gate_depthwise(const BlockTask& task)
{
    Block block(task);
    const DepthwiseOut whole(task);
    // Without an expand all channels of a row come at once.
    const int64_t chunk_vectors = task.params->has_expand ? task.plan->cuts.chunk_vectors : task.end - task.begin;
    for (int64_t vector = task.begin; vector < task.end; vector += chunk_vectors) {
        const Range chunk{vector, smaller(vector + chunk_vectors, task.end)};
        block.compute_chunk(chunk);
        take_means(task, whole, chunk);
    }
}

// Output rows [task.begin, task.end) of a gated image.
void gate_project(const BlockTask& task)
{
    const Gate gate(task);
    Block block(task);
    const int64_t strip_rows = task.plan->cuts.strip_rows;
    for (int64_t row = task.begin; row < task.end; row += strip_rows) {
        const Range strip{row, smaller(row + strip_rows, task.end)};
        block.take_shortcut(strip);
        block.multiply_depthwise_out(strip, gate.factors());
        block.project(strip, block.all_channels());
    }
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
