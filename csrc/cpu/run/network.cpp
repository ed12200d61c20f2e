// A network layer by layer on blocked activations, which stay inside from the stem to the result.
#include "cpu/run/network.h"

#include <algorithm>
#include <atomic>
#include <new>

#include "cpu/run/scratch.h"
#include "cpu/run/stopwatch.h"

namespace mnv2::cpu {
namespace {

using Layers = std::vector<NetworkLayer>;

// --- plan ---

template <class Params>
const Params* as(const NetworkLayer& layer)
{
    return std::get_if<Params>(&layer.params);
}

// Layers of images, which come before linear layers.
size_t body_of(const Layers& layers)
{
    size_t body = layers.size();
    while (body > 0 && as<LinearParams>(layers[body - 1])) --body;
    return body;
}

BlockedImages result_of(const NetworkLayer& layer, const PackLayout& layout)
{
    const ImageSize size = result_size(layer);
    const int64_t plane = plane_elements(size.height * size.width, layout);
    return {size.width, vector_count(channels_of(layer.params).out, layout) * plane, plane};
}

// Whether a stem's results go straight into the block behind it.
bool is_stem_with_block(const Layers& layers, size_t stem)
{
    if (!as<StemParams>(layers[stem]) || stem + 1 == layers.size()) return false;
    const auto* block = as<InvertedResidualParams>(layers[stem + 1]);
    return block && !block->has_expand && !block->has_residual && !block->has_gate();
}

// The stage that begins with a layer, for `count` images.
Stage plan_stage(const Layers& layers, size_t first, int64_t count, const PackLayout& layout, int64_t threads)
{
    const auto planned = [&](auto params, size_t layer) {
        params.batch = count;
        return Planned(params, layout, threads, layers[layer].packed_at);
    };
    if (is_stem_with_block(layers, first)) {
        const auto& stem = *as<StemParams>(layers[first]);
        const auto& block = *as<InvertedResidualParams>(layers[first + 1]);
        return {PlannedStemAndBlock{planned(stem, first), planned(block, first + 1)}, first + 1,
                result_of(layers[first + 1], layout)};
    }
    const auto plan = [&](const auto& params) -> decltype(Stage::layers) { return planned(params, first); };
    return {std::visit(plan, layers[first].params), first, result_of(layers[first], layout)};
}

ImagesPlan plan_images(const Layers& layers, int64_t count, const PackLayout& layout, int64_t threads)
{
    ImagesPlan plan{count, {}, {0, 0}};
    const size_t body = body_of(layers);
    for (size_t layer = 0; layer < body; layer = plan.stages.back().last_layer + 1) {
        int64_t& floats = plan.area_floats[plan.stages.size() % 2];
        const Stage& stage = plan.stages.emplace_back(plan_stage(layers, layer, count, layout, threads));
        if (stage.last_layer + 1 < body) floats = std::max(floats, stored_floats(count * stage.result.stride_n, layout));
    }
    return plan;
}

// --- run ---

class NetworkRun {
public:
    NetworkRun(const NetworkPlan& plan, const InputView& x, const void* packed, void* y, double* layer_seconds)
        : plan_(plan),
          kernels_(*plan.kernels),
          packed_(packed),
          layer_seconds_(layer_seconds),
          dtype_(x.dtype),
          x_(view_of(x, kernels_)),
          y_(nhwc_result(y, x.dtype, plan.result_pixels, plan.result_channels, kernels_))
    {
    }

    void run(const Parallel& parallel) const
    {
        constexpr int64_t areas = 2;
        float* const vectors =
            plan_.vectors_floats ? scratch_or_throw(Scratch::vectors, areas * plan_.vectors_floats) : nullptr;
        const bool has_images = plan_.single || plan_.rest;
        if (has_images) {
            const ResultView result = plan_.linear.empty() ? y_ : to_write(plan_.vectors, vectors);
            if (plan_.single) run_whole_images(result, parallel);
            if (plan_.rest) run_images(*plan_.rest, plan_.whole_images, result, parallel);
        }
        run_linear(has_images ? to_read(plan_.vectors, vectors) : vectors_as_rows(x_), vectors, parallel);
    }

private:
    int64_t lanes() const { return kernels_.layout.vector_width; }

    ImageView to_read(const BlockedImages& images, const void* data) const
    {
        return {data, kernels_.layout.stored, true, images.stride_n, images.plane, 1, images.width * lanes(), lanes()};
    }
    ResultView to_write(const BlockedImages& images, void* data) const
    {
        return {data, dtype_, kernels_.layout.stored, true, images.stride_n, images.plane, lanes()};
    }

    // (N, C) vectors as the rows of one image.
    static ImageView vectors_as_rows(ImageView x)
    {
        x.stride_h = x.stride_n;
        return x;
    }

    // Linear layers one after another. x: what the first one reads, in the first area or elsewhere.
    void run_linear(ImageView x, float* areas, const Parallel& parallel) const
    {
        for (size_t index = 0; index < plan_.linear.size(); ++index) {
            float* const area = index % 2 == 0 ? areas + plan_.vectors_floats : areas;
            const bool is_last = index + 1 == plan_.linear.size();
            run_stage(plan_.linear[index], 0, x, is_last ? y_ : to_write(plan_.vectors, area), parallel);
            x = to_read(plan_.vectors, area);
        }
    }

    // Images from first_image on.
    void run_stage(const Stage& stage, int64_t first_image, const ImageView& x, const ResultView& y,
                   const Parallel& parallel) const
    {
        const Stopwatch stopwatch(layer_seconds_ && first_image == 0 ? layer_seconds_ + stage.last_layer : nullptr);
        std::visit([&](const auto& layers) { cpu::run(kernels_, layers, x, packed_, y, parallel); }, stage.layers);
    }

    void run_whole_images(const ResultView& result, const Parallel& parallel) const
    {
        struct Context {
            const NetworkRun& run;
            const ResultView& result;
            std::atomic<bool> out_of_memory;
        } context{*this, result, false};
        const auto run_range = [](void* opaque, int64_t begin, int64_t end) {
            auto& shared = *static_cast<Context*>(opaque);
            try {
                for (int64_t n = begin; n < end; ++n) shared.run.run_images(*shared.run.plan_.single, n, shared.result, {});
            } catch (const std::bad_alloc&) {
                shared.out_of_memory = true;
            }
        };
        parallel.run(plan_.whole_images, run_range, &context);
        if (context.out_of_memory) throw std::bad_alloc();
    }

    // The plan's images, from the first one on.
    void run_images(const ImagesPlan& plan, int64_t first, const ResultView& result, const Parallel& parallel) const
    {
        float* const areas = scratch_or_throw(Scratch::images, plan.area_floats[0] + plan.area_floats[1]);
        ImageView x = image_of(x_, first);
        for (size_t index = 0; index + 1 < plan.stages.size(); ++index) {
            const Stage& stage = plan.stages[index];
            float* const area = index % 2 == 0 ? areas : areas + plan.area_floats[0];
            run_stage(stage, first, x, to_write(stage.result, area), parallel);
            x = to_read(stage.result, area);
        }
        run_stage(plan.stages.back(), first, x, image_of(result, first), parallel);
    }

    const NetworkPlan& plan_;
    const Kernels& kernels_;
    const void* packed_;
    double* layer_seconds_;
    ScalarType dtype_;
    ImageView x_;
    ResultView y_;
};

}  // namespace

NetworkPlan plan_network(const std::vector<NetworkLayer>& layers, const Kernels& kernels, int64_t threads)
{
    const PackLayout& layout = kernels.layout;
    const int64_t batch = std::visit([](const auto& params) { return params.batch; }, layers.front().params);
    const ImageSize size = result_size(layers.back());
    NetworkPlan plan{};
    plan.kernels = &kernels;
    plan.result_pixels = size.height * size.width;
    plan.result_channels = channels_of(layers.back().params).out;
    const size_t body = body_of(layers);
    plan.vectors = {batch, layout.vector_width, batch * layout.vector_width};
    for (size_t layer = body; layer < layers.size(); ++layer) {
        plan.linear.push_back(plan_stage(layers, layer, batch, layout, threads));
        if (layer == 0) continue;
        const int64_t vectors = vector_count(channels_of(layers[layer].params).in, layout);
        plan.vectors_floats = std::max(plan.vectors_floats, stored_floats(vectors * plan.vectors.plane, layout));
    }
    if (body == 0) return plan;
    plan.whole_images = batch / threads * threads;
    if (plan.whole_images > 0) plan.single = plan_images(layers, 1, layout, 1);
    if (plan.whole_images < batch) plan.rest = plan_images(layers, batch - plan.whole_images, layout, threads);
    return plan;
}

void network(const NetworkPlan& plan, const InputView& x, const void* packed, void* y, const Parallel& parallel,
             double* layer_seconds)
{
    NetworkRun(plan, x, packed, y, layer_seconds).run(parallel);
}

}  // namespace mnv2::cpu
