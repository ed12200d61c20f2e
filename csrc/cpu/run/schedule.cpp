#include "cpu/run/schedule.h"

#include <algorithm>
#include <atomic>
#include <new>

#include "core/sizes.h"
#include "cpu/range.h"
#include "cpu/run/scratch.h"

namespace mnv2::cpu {
namespace {

// Segment number index of [0, size); all are of nearly equal length.
Range segment_of(int64_t size, int64_t segments, int64_t index)
{
    return {size * index / segments, size * (index + 1) / segments};
}

// The same with boundaries at multiples of a number.
Range segment_at_multiples(int64_t size, int64_t multiple, int64_t segments, int64_t index)
{
    const Range multiples = segment_of(divide_up(size, multiple), segments, index);
    return {std::min(multiples.begin * multiple, size), std::min(multiples.end * multiple, size)};
}

// Runs run_task(image, segment, scratch) for every segment of every image.
template <class RunTask>
void for_each_segment(int64_t batch, int64_t segments, int64_t scratch_bytes, const Parallel& parallel, const RunTask& run_task)
{
    struct Context {
        const RunTask& run_task;
        int64_t segments, scratch_bytes;
        std::atomic<bool> out_of_memory;
    } context{run_task, segments, scratch_bytes, false};
    const auto body = [](void* opaque, int64_t begin, int64_t end) {
        auto& shared = *static_cast<Context*>(opaque);
        float* scratch = thread_scratch(Scratch::task, shared.scratch_bytes);
        if (!scratch) {
            shared.out_of_memory = true;
            return;
        }
        for (int64_t task = begin; task < end; ++task) shared.run_task(task / shared.segments, task % shared.segments, scratch);
    };
    parallel.run(batch * segments, body, &context);
    if (context.out_of_memory) throw std::bad_alloc();
}

// A layer's weights, behind its header.
template <class Params>
const float* values_of(const Planned<Params>& layer, const void* packed)
{
    return packed_values(static_cast<const char*>(packed) + layer.packed_at);
}

void run_by_channels(const Kernels& kernels, const Planned<InvertedResidualParams>& block, const ImageView& x,
                     const void* packed, const ResultView& y, const Parallel& parallel)
{
    const InvertedResidualParams& params = block.params;
    const BlockPlan& plan = block.plan;
    float* const depthwise_out = scratch_or_throw(Scratch::depthwise_out, params.batch * plan.depthwise_out_floats);
    const int64_t segments = plan.cuts.segments, vectors = vector_count(params.expanded_channels, kernels.layout);
    const auto task_of = [&](int64_t image, const Range& range, float* scratch) -> BlockTask {
        return {&params,
                &plan,
                image_of(x, image),
                values_of(block, packed),
                image_of(y, image),
                range.begin,
                range.end,
                scratch,
                depthwise_out + image * plan.depthwise_out_floats};
    };
    for_each_segment(params.batch, segments, plan.scratch_bytes, parallel, [&](int64_t image, int64_t segment, float* scratch) {
        const Range range = segment_at_multiples(vectors, plan.cuts.chunk_vectors, segments, segment);
        kernels.expand_and_depthwise(task_of(image, range, scratch));
    });
    for_each_segment(params.batch, segments, plan.scratch_bytes, parallel, [&](int64_t image, int64_t segment, float* scratch) {
        const Range range = segment_at_multiples(params.out_channels, panel_channels(kernels.layout), segments, segment);
        kernels.project(task_of(image, range, scratch));
    });
}

void run_gated(const Kernels& kernels, const Planned<InvertedResidualParams>& block, const ImageView& x, const void* packed,
               const ResultView& y, const Parallel& parallel)
{
    const InvertedResidualParams& params = block.params;
    const BlockPlan& plan = block.plan;
    const int64_t image_floats = plan.depthwise_out_floats + plan.means_floats;
    float* const images = scratch_or_throw(Scratch::depthwise_out, params.batch * image_floats);
    const int64_t vectors = vector_count(params.expanded_channels, kernels.layout), rows = params.out_height();
    const auto task_of = [&](int64_t image, const Range& range, float* scratch) -> BlockTask {
        float* const depthwise_out = images + image * image_floats;
        return {&params,
                &plan,
                image_of(x, image),
                values_of(block, packed),
                image_of(y, image),
                range.begin,
                range.end,
                scratch,
                depthwise_out,
                depthwise_out + plan.depthwise_out_floats};
    };
    const int64_t of_channels = std::min(plan.cuts.segments, divide_up(vectors, plan.cuts.chunk_vectors));
    for_each_segment(params.batch, of_channels, plan.scratch_bytes, parallel,
                     [&](int64_t image, int64_t segment, float* scratch) {
                         const Range range = segment_at_multiples(vectors, plan.cuts.chunk_vectors, of_channels, segment);
                         kernels.gate_depthwise(task_of(image, range, scratch));
                     });
    for_each_segment(params.batch, plan.cuts.segments, plan.scratch_bytes, parallel,
                     [&](int64_t image, int64_t segment, float* scratch) {
                         kernels.gate_project(task_of(image, segment_of(rows, plan.cuts.segments, segment), scratch));
                     });
}

}  // namespace

ImageView view_of(const InputView& x, const Kernels& kernels)
{
    return {x.data,     x.dtype,    false,      x.stride_n, kernels.layout.vector_width * x.stride_c,
            x.stride_c, x.stride_h, x.stride_w, x.is_bytes};
}

ResultView nhwc_result(void* y, ScalarType dtype, int64_t pixels, int64_t channels, const Kernels& kernels)
{
    return {y, dtype, dtype, false, pixels * channels, kernels.layout.vector_width, channels};
}

ImageView image_of(ImageView x, int64_t n)
{
    x.data = static_cast<const char*>(x.data) + n * x.stride_n * element_bytes(x.dtype, x.is_bytes);
    return x;
}

ResultView image_of(ResultView y, int64_t n)
{
    y.data = static_cast<char*>(y.data) + n * y.stride_n * scalar_bytes(y.stored);
    return y;
}

void run(const Kernels& kernels, const Planned<InvertedResidualParams>& block, const ImageView& x, const void* packed,
         const ResultView& y, const Parallel& parallel)
{
    const InvertedResidualParams& params = block.params;
    const BlockPlan& plan = block.plan;
    if (params.has_gate()) return run_gated(kernels, block, x, packed, y, parallel);
    if (plan.cuts.splits_channels) return run_by_channels(kernels, block, x, packed, y, parallel);
    for_each_segment(params.batch, plan.cuts.segments, plan.scratch_bytes, parallel,
                     [&](int64_t image, int64_t segment, float* scratch) {
                         const Range rows = segment_of(params.out_height(), plan.cuts.segments, segment);
                         kernels.inverted_residual({&params, &plan, image_of(x, image), values_of(block, packed),
                                                    image_of(y, image), rows.begin, rows.end, scratch});
                     });
}

void run(const Kernels& kernels, const Planned<StemParams>& stem, const ImageView& x, const void* packed, const ResultView& y,
         const Parallel& parallel)
{
    const StemPlan& plan = stem.plan;
    for_each_segment(stem.params.batch, plan.segments, plan.scratch_bytes, parallel,
                     [&](int64_t image, int64_t segment, float* scratch) {
                         const Range rows = segment_of(stem.params.out_height(), plan.segments, segment);
                         kernels.stem({&stem.params, &plan, image_of(x, image), values_of(stem, packed), image_of(y, image),
                                       rows.begin, rows.end, scratch});
                     });
}

void run(const Kernels& kernels, const PlannedStemAndBlock& both, const ImageView& x, const void* packed, const ResultView& y,
         const Parallel& parallel)
{
    const auto& [stem, block] = both;
    const int64_t segments = block.plan.cuts.segments, stem_at = block.plan.scratch_bytes;
    for_each_segment(
        block.params.batch, segments, stem_at + stem.plan.scratch_bytes, parallel,
        [&](int64_t image, int64_t segment, float* scratch) {
            const Range rows = segment_of(block.params.out_height(), segments, segment);
            float* stem_scratch = scratch + stem_at / static_cast<int64_t>(sizeof(float));
            kernels.stem_and_block(
                {&stem.params, &stem.plan, image_of(x, image), values_of(stem, packed), {}, 0, 0, stem_scratch},
                {&block.params, &block.plan, {}, values_of(block, packed), image_of(y, image), rows.begin, rows.end, scratch});
        });
}

void run(const Kernels& kernels, const Planned<HeadPoolParams>& head, const ImageView& x, const void* packed,
         const ResultView& y, const Parallel& parallel)
{
    const HeadPoolPlan& plan = head.plan;
    for_each_segment(
        head.params.batch, plan.segments, plan.scratch_bytes, parallel, [&](int64_t image, int64_t segment, float* scratch) {
            const Range channels =
                segment_at_multiples(head.params.out_channels, panel_channels(kernels.layout), plan.segments, segment);
            kernels.head_pool({&head.params, &plan, image_of(x, image), values_of(head, packed), image_of(y, image),
                               channels.begin, channels.end, scratch});
        });
}

void run(const Kernels& kernels, const Planned<LinearParams>& linear, const ImageView& x, const void* packed,
         const ResultView& y, const Parallel& parallel)
{
    const LinearPlan& plan = linear.plan;
    for_each_segment(1, plan.segments, plan.scratch_bytes, parallel, [&](int64_t, int64_t segment, float* scratch) {
        const Range channels =
            segment_at_multiples(linear.params.out_features, panel_channels(kernels.layout), plan.segments, segment);
        kernels.linear({&linear.params, &plan, x, values_of(linear, packed), y, channels.begin, channels.end, scratch});
    });
}

}  // namespace mnv2::cpu
