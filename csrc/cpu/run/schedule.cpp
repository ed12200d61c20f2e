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

void run_block_by_channels(const Kernels& kernels, const InvertedResidualParams& params, const BlockPlan& plan,
                           const ImageView& x, const void* packed, const ResultView& y, const Parallel& parallel)
{
    float* const depthwise_out = scratch_or_throw(Scratch::depthwise_out, params.batch * plan.depthwise_out_floats);
    const int64_t segments = plan.cuts.segments, vectors = vector_count(params.expanded_channels, kernels.layout);
    const auto task_of = [&](int64_t image, const Range& range, float* scratch) -> BlockTask {
        return {&params,
                &plan,
                image_of(x, image),
                packed_values(packed),
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

}  // namespace

ImageView view_of(const InputView& x, const Kernels& kernels)
{
    return {x.data, x.dtype, false, x.stride_n, kernels.layout.vector_width * x.stride_c, x.stride_c, x.stride_h, x.stride_w};
}

ResultView nhwc_result(void* y, ScalarType dtype, int64_t pixels, int64_t channels, const Kernels& kernels)
{
    return {y, dtype, dtype, false, pixels * channels, kernels.layout.vector_width, channels};
}

ImageView image_of(ImageView x, int64_t n)
{
    x.data = static_cast<const char*>(x.data) + n * x.stride_n * scalar_bytes(x.dtype);
    return x;
}

ResultView image_of(ResultView y, int64_t n)
{
    y.data = static_cast<char*>(y.data) + n * y.stride_n * scalar_bytes(y.stored);
    return y;
}

void run_block(const Kernels& kernels, const InvertedResidualParams& params, const ImageView& x, const void* packed,
               const ResultView& y, const Parallel& parallel)
{
    const PackLayout layout = packed_layout(packed);
    const BlockCuts cuts = choose_cuts(params, layout, cache_sizes(), parallel.threads);
    const BlockPlan plan = plan_block(params, layout, cuts);
    if (cuts.splits_channels) return run_block_by_channels(kernels, params, plan, x, packed, y, parallel);
    for_each_segment(
        params.batch, cuts.segments, plan.scratch_bytes, parallel, [&](int64_t image, int64_t segment, float* scratch) {
            const Range rows = segment_of(params.out_height(), cuts.segments, segment);
            kernels.inverted_residual(
                {&params, &plan, image_of(x, image), packed_values(packed), image_of(y, image), rows.begin, rows.end, scratch});
        });
}

void run_stem(const Kernels& kernels, const StemParams& params, const ImageView& x, const void* packed, const ResultView& y,
              const Parallel& parallel)
{
    const StemPlan plan = plan_stem(params, kernels.layout, parallel.threads);
    for_each_segment(
        params.batch, plan.segments, plan.scratch_bytes, parallel, [&](int64_t image, int64_t segment, float* scratch) {
            const Range rows = segment_of(params.out_height(), plan.segments, segment);
            kernels.stem(
                {&params, &plan, image_of(x, image), packed_values(packed), image_of(y, image), rows.begin, rows.end, scratch});
        });
}

void run_stem_and_block(const Kernels& kernels, const StemParams& stem, const InvertedResidualParams& block, const ImageView& x,
                        const void* packed_stem, const void* packed_block, const ResultView& y, const Parallel& parallel)
{
    const StemPlan stem_plan = plan_stem(stem, kernels.layout, parallel.threads);
    const PackLayout layout = packed_layout(packed_block);
    const BlockCuts cuts = choose_cuts(block, layout, cache_sizes(), parallel.threads);
    const BlockPlan plan = plan_block(block, layout, cuts);
    for_each_segment(block.batch, cuts.segments, plan.scratch_bytes + stem_plan.scratch_bytes, parallel,
                     [&](int64_t image, int64_t segment, float* scratch) {
                         const Range rows = segment_of(block.out_height(), cuts.segments, segment);
                         float* stem_scratch = scratch + plan.scratch_bytes / static_cast<int64_t>(sizeof(float));
                         const BlockTask task{&block,     &plan,    {},     packed_values(packed_block), image_of(y, image),
                                              rows.begin, rows.end, scratch};
                         kernels.stem_and_block(
                             {&stem, &stem_plan, image_of(x, image), packed_values(packed_stem), {}, 0, 0, stem_scratch}, task);
                     });
}

void run_head_pool(const Kernels& kernels, const HeadPoolParams& params, const ImageView& x, const void* packed,
                   const ResultView& y, const Parallel& parallel)
{
    const HeadPoolPlan plan = plan_head_pool(params, packed_layout(packed), parallel.threads);
    for_each_segment(params.batch, plan.segments, plan.scratch_bytes, parallel,
                     [&](int64_t image, int64_t segment, float* scratch) {
                         const Range channels =
                             segment_at_multiples(params.out_channels, panel_channels(kernels.layout), plan.segments, segment);
                         kernels.head_pool({&params, &plan, image_of(x, image), packed_values(packed), image_of(y, image),
                                            channels.begin, channels.end, scratch});
                     });
}

void run_linear(const Kernels& kernels, const LinearParams& params, const ImageView& x, const void* packed, const ResultView& y,
                const Parallel& parallel)
{
    const LinearPlan plan = plan_linear(params, kernels.layout, parallel.threads);
    for_each_segment(1, plan.segments, plan.scratch_bytes, parallel, [&](int64_t, int64_t segment, float* scratch) {
        const Range channels =
            segment_at_multiples(params.out_features, panel_channels(kernels.layout), plan.segments, segment);
        kernels.linear({&params, &plan, x, packed_values(packed), y, channels.begin, channels.end, scratch});
    });
}

}  // namespace mnv2::cpu
