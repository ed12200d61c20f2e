// The three operators behind one set of overloaded names: what a case is called, its weights, packing, reference, launch, and
// the instruction set's own function with a plan of the test's choice.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "check.h"
#include "core/block.h"
#include "core/packing.h"
#include "core/parallel.h"
#include "cpu/isa/dispatch.h"
#include "cpu/kernels.h"
#include "cpu/plan.h"
#include "cpu/run/schedule.h"
#include "guarded.h"
#include "reference.h"
#include "tensors.h"

namespace mnv2::test {

inline std::string describe(Activation activation)
{
    return activation_name(activation);
}

template <class Params>
std::string describe_window(const Params& params)
{
    const Padding& p = params.padding;
    return join(" kernel ", params.kernel, " stride ", params.stride, " padding ", p.top, p.left, p.bottom, p.right, " ",
                describe(params.activation));
}

template <class Params>
std::string describe_image(const Params& params)
{
    return join(params.batch, " x ", params.height, " x ", params.width, " x ", params.in_channels);
}

// A head pools its pixels into one.
template <class Params>
int64_t out_pixels(const Params& params)
{
    if constexpr (requires { params.out_height(); })
        return params.out_height() * params.out_width();
    else
        return 1;
}

template <class Plan>
int64_t segments_of(const Plan& plan)
{
    if constexpr (requires { plan.cuts; })
        return plan.cuts.segments;
    else
        return plan.segments;
}

// A layer's bytes, filled by write(to).
template <class Params, class Write>
std::vector<uint8_t> packed_by(const Params& params, const PackLayout& layout, const Write& write)
{
    std::vector<uint8_t> packed(static_cast<size_t>(packed_bytes(params, layout)), dead_byte);
    write(packed.data());
    return packed;
}

// One image's results, NHWC.
template <class Params>
cpu::ResultView image_result(const cpu::Kernels& kernels, const Params& params, ScalarType dtype, void* y)
{
    return cpu::nhwc_result(y, dtype, out_pixels(params), params.out_channels, kernels);
}

// --- inverted residual -------------------------------------------------------------------------------------------------

inline std::string describe(const InvertedResidualParams& params)
{
    return join("block ", describe_image(params), " -> ", params.has_expand ? "" : "(no expand) ", params.expanded_channels,
                " -> ", params.out_channels, describe_window(params), ", ", describe(params.project_activation),
                params.depthwise_activation ? join(" behind ", describe(*params.depthwise_activation)) : "",
                params.squeezed_channels ? join(", gate of ", params.squeezed_channels) : "",
                params.has_residual ? ", residual" : "");
}

inline BlockWeights random_weights(Random& random, const InvertedResidualParams& params)
{
    BlockWeights weights;
    if (params.has_expand) weights.expand = random_convolution(random, params.expanded_channels, params.in_channels);
    weights.depthwise = random_convolution(random, params.expanded_channels, params.taps());
    weights.project = random_convolution(random, params.out_channels, params.expanded_channels);
    if (!params.has_gate()) return weights;
    weights.squeeze = random_convolution(random, params.squeezed_channels, params.expanded_channels);
    weights.excite = random_convolution(random, params.expanded_channels, params.squeezed_channels);
    return weights;
}

inline std::vector<uint8_t> pack(const InvertedResidualParams& params, const BlockWeights& weights, const PackLayout& layout)
{
    return packed_by(params, layout, [&](void* to) { pack_block(params, weights.views(), layout, to); });
}

// The weights as kernels with that stored type hold them: pointwise layers' are rounded to it.
inline BlockWeights rounded_for(const InvertedResidualParams&, const BlockWeights& weights, ScalarType stored)
{
    return {rounded(weights.expand, stored), weights.depthwise, rounded(weights.project, stored),
            rounded(weights.squeeze, stored), rounded(weights.excite, stored)};
}

inline Image reference(const InvertedResidualParams& params, const Image& x, const BlockWeights& weights, ScalarType stored)
{
    return inverted_residual(params, x, weights, stored);
}

inline cpu::BlockPlan plan_for(const InvertedResidualParams& params, const PackLayout& layout)
{
    return cpu::plan_layer(params, layout, 1);
}

// One segment of one image.
inline void run_segment(const cpu::Kernels& kernels, const InvertedResidualParams& params, const cpu::BlockPlan& plan,
                        const InputView& image, const float* packed, void* y, int64_t segment, float* scratch)
{
    const int64_t rows = params.out_height(), segments = plan.cuts.segments;
    kernels.inverted_residual({&params, &plan, cpu::view_of(image, kernels), packed,
                               image_result(kernels, params, image.dtype, y), rows * segment / segments,
                               rows * (segment + 1) / segments, scratch});
}

// --- stem ----------------------------------------------------------------------------------------------------------------

inline std::string describe(const StemParams& params)
{
    return join("stem ", describe_image(params), " -> ", params.out_channels, describe_window(params));
}

inline Convolution random_weights(Random& random, const StemParams& params)
{
    return random_convolution(random, params.out_channels, params.taps() * params.in_channels);
}

inline std::vector<uint8_t> pack(const StemParams& params, const Convolution& weights, const PackLayout& layout)
{
    return packed_by(params, layout, [&](void* to) { pack_stem(params, weights.view(), layout, to); });
}

// A stem's weights stay float32.
inline Convolution rounded_for(const StemParams&, const Convolution& weights, ScalarType)
{
    return weights;
}

inline Image reference(const StemParams& params, const Image& x, const Convolution& weights, ScalarType)
{
    return stem(params, x, weights);
}

inline cpu::StemPlan plan_for(const StemParams& params, const PackLayout& layout)
{
    return cpu::plan_layer(params, layout, 1);
}

inline void run_segment(const cpu::Kernels& kernels, const StemParams& params, const cpu::StemPlan& plan,
                        const InputView& image, const float* packed, void* y, int64_t segment, float* scratch)
{
    const int64_t rows = params.out_height(), segments = plan.segments;
    kernels.stem({&params, &plan, cpu::view_of(image, kernels), packed, image_result(kernels, params, image.dtype, y),
                  rows * segment / segments, rows * (segment + 1) / segments, scratch});
}

// --- head and pool -------------------------------------------------------------------------------------------------------

inline std::string describe(const HeadPoolParams& params)
{
    return join("head ", describe_image(params), " -> ", params.out_channels, " ", describe(params.activation));
}

inline Convolution random_weights(Random& random, const HeadPoolParams& params)
{
    return random_convolution(random, params.out_channels, params.in_channels);
}

inline std::vector<uint8_t> pack(const HeadPoolParams& params, const Convolution& weights, const PackLayout& layout)
{
    return packed_by(params, layout, [&](void* to) { pack_head_pool(params, weights.view(), layout, to); });
}

inline Convolution rounded_for(const HeadPoolParams&, const Convolution& weights, ScalarType stored)
{
    return rounded(weights, stored);
}

inline Image reference(const HeadPoolParams& params, const Image& x, const Convolution& weights, ScalarType stored)
{
    return head_pool(params, x, weights, stored);
}

inline cpu::HeadPoolPlan plan_for(const HeadPoolParams& params, const PackLayout& layout)
{
    return cpu::plan_layer(params, layout, 1);
}

inline void run_segment(const cpu::Kernels& kernels, const HeadPoolParams& params, const cpu::HeadPoolPlan& plan,
                        const InputView& image, const float* packed, void* y, int64_t segment, float* scratch)
{
    const int64_t panel = cpu::panel_channels(kernels.layout), panels = cpu::panel_count(params.out_channels, kernels.layout);
    const int64_t end = panels * (segment + 1) / plan.segments * panel;
    kernels.head_pool({&params, &plan, cpu::view_of(image, kernels), packed, image_result(kernels, params, image.dtype, y),
                       panels * segment / plan.segments * panel, end < params.out_channels ? end : params.out_channels,
                       scratch});
}

// --- launches ------------------------------------------------------------------------------------------------------------

template <class Params>
void launch(const Params& params, const InputView& x, const void* packed, void* y, const Parallel& parallel)
{
    const cpu::Kernels& kernels = cpu::kernels_for(packed_isa(packed));
    cpu::run(kernels, cpu::Planned(params, kernels.layout, parallel.threads), cpu::view_of(x, kernels), packed,
             image_result(kernels, params, x.dtype, y), parallel);
}

// x: (N, in_features, 1, 1).
inline void launch(const LinearParams& params, const InputView& x, const void* packed, void* y, const Parallel& parallel)
{
    const cpu::Kernels& kernels = cpu::kernels_for(packed_isa(packed));
    InputView rows = x;  // a batch's vectors are the rows of one image
    rows.stride_h = x.stride_n;
    cpu::run(kernels, cpu::Planned(params, kernels.layout, parallel.threads), cpu::view_of(rows, kernels), packed,
             cpu::nhwc_result(y, x.dtype, 1, params.out_features, kernels), parallel);
}

}  // namespace mnv2::test
