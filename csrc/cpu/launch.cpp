#include "cpu/launch.h"

#include <algorithm>
#include <atomic>
#include <new>

#include "core/packing.h"
#include "cpu/dispatch.h"
#include "cpu/scratch.h"

namespace mnv2::cpu {
namespace {

InputView image_of(InputView x, int64_t index)
{
    x.data = static_cast<const char*>(x.data) + index * x.stride_n * scalar_bytes(x.dtype);
    return x;
}

void* offset_by(void* y, int64_t elements, ScalarType dtype)
{
    return static_cast<char*>(y) + elements * scalar_bytes(dtype);
}

struct Range {
    int64_t begin, end;
};

// Part number index of [0, size), cut into parts of nearly equal length.
Range part_of(int64_t size, int64_t parts, int64_t index)
{
    return {size * index / parts, size * (index + 1) / parts};
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
        float* scratch = thread_scratch(shared.scratch_bytes);
        if (!scratch) {
            shared.out_of_memory = true;
            return;
        }
        for (int64_t task = begin; task < end; ++task) shared.run_task(task / shared.segments, task % shared.segments, scratch);
    };
    parallel.run(batch * segments, body, &context);
    if (context.out_of_memory) throw std::bad_alloc();
}

}  // namespace

void inverted_residual(const InvertedResidualParams& params, const InputView& x, const void* packed, void* y,
                       const Parallel& parallel)
{
    const Kernels& kernels = kernels_for(packed_isa(packed));
    const BlockCuts cuts = choose_cuts(params, kernels.layout, cache_sizes(), parallel.threads);
    const BlockPlan plan = plan_block(params, kernels.layout, cuts);
    const int64_t image_values = params.out_height() * params.out_width() * params.out_channels;
    for_each_segment(
        params.batch, cuts.segments, plan.scratch_bytes, parallel, [&](int64_t image, int64_t segment, float* scratch) {
            const Range rows = part_of(params.out_height(), cuts.segments, segment);
            kernels.inverted_residual({&params, &plan, image_of(x, image), packed_values(packed),
                                       offset_by(y, image * image_values, x.dtype), rows.begin, rows.end, scratch});
        });
}

void stem(const StemParams& params, const InputView& x, const void* packed, void* y, const Parallel& parallel)
{
    const Kernels& kernels = kernels_for(packed_isa(packed));
    const StemPlan plan = plan_stem(params, parallel.threads);
    const int64_t image_values = params.out_height() * params.out_width() * params.out_channels;
    for_each_segment(params.batch, plan.segments, plan.scratch_bytes, parallel,
                     [&](int64_t image, int64_t segment, float* scratch) {
                         const Range rows = part_of(params.out_height(), plan.segments, segment);
                         kernels.stem({&params, &plan, image_of(x, image), packed_values(packed),
                                       offset_by(y, image * image_values, x.dtype), rows.begin, rows.end, scratch});
                     });
}

void head_pool(const HeadPoolParams& params, const InputView& x, const void* packed, void* y, const Parallel& parallel)
{
    const Kernels& kernels = kernels_for(packed_isa(packed));
    const HeadPoolPlan plan = plan_head_pool(params, kernels.layout, parallel.threads);
    const int64_t panel = static_cast<int64_t>(kernels.layout.panel_vectors) * kernels.layout.vector_width;
    const int64_t panels = (params.out_channels + panel - 1) / panel;
    for_each_segment(params.batch, plan.segments, plan.scratch_bytes, parallel,
                     [&](int64_t image, int64_t segment, float* scratch) {
                         const Range part = part_of(panels, plan.segments, segment);
                         kernels.head_pool({&params, &plan, image_of(x, image), packed_values(packed),
                                            offset_by(y, image * params.out_channels, x.dtype), part.begin * panel,
                                            std::min(part.end * panel, params.out_channels), scratch});
                     });
}

}  // namespace mnv2::cpu
