// A network layer by layer on blocked activations, which stay inside from the stem to the result.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <new>
#include <variant>

#include "core/network.h"
#include "cpu/isa/dispatch.h"
#include "cpu/run/network.h"
#include "cpu/run/schedule.h"
#include "cpu/run/scratch.h"

namespace mnv2::cpu {
namespace {

// Images as one layer leaves them to the next.
struct BlockedImages {
    void* data;
    ScalarType stored;
    int64_t width, stride_n, plane;

    ImageView to_read(int64_t lanes) const { return {data, stored, true, stride_n, plane, 1, width * lanes, lanes}; }
    ResultView to_write(ScalarType dtype, int64_t lanes) const { return {data, dtype, stored, true, stride_n, plane, lanes}; }
};

// Adds the time of a scope to a number, if there is one.
class Stopwatch {
public:
    explicit Stopwatch(double* seconds) : seconds_(seconds)
    {
        if (seconds_) start_ = Clock::now();
    }
    ~Stopwatch()
    {
        if (seconds_) *seconds_ += std::chrono::duration<double>(Clock::now() - start_).count();
    }
    Stopwatch(const Stopwatch&) = delete;
    Stopwatch& operator=(const Stopwatch&) = delete;

private:
    using Clock = std::chrono::steady_clock;
    double* seconds_;
    Clock::time_point start_;
};

// Params of one layer for `batch` images of it.
template <class Params>
Params of_batch(const NetworkLayer& layer, int64_t batch)
{
    Params params = std::get<Params>(layer.params);
    params.batch = batch;
    return params;
}

class NetworkRun {
public:
    NetworkRun(const std::vector<NetworkLayer>& layers, const InputView& x, void* y, double* layer_seconds)
        : layers_(layers),
          layer_seconds_(layer_seconds),
          kernels_(kernels_for(packed_isa(layers.front().packed))),
          lanes_(kernels_.layout.vector_width),
          batch_(std::visit([](const auto& params) { return params.batch; }, layers.front().params)),
          has_linear_(std::holds_alternative<LinearParams>(layers.back().params)),
          dtype_(x.dtype),
          x_(view_of(x, kernels_)),
          y_(nhwc_result(y, x.dtype, pixels_of(layers.back()), channels_of(layers.back().params).out, kernels_))
    {
    }

    void run(const Parallel& parallel)
    {
        const size_t body = layers_.size() - (has_linear_ ? 1 : 0);  // layers of images
        if (body == 0) return run_linear_on(vectors_as_rows(x_), parallel);
        // The batch's means are the pixels of one image.
        BlockedImages pooled{nullptr, stored(), batch_, lanes_, batch_ * lanes_};
        if (has_linear_) {
            const int64_t pooled_vectors = vectors(channels_of(layers_[body - 1].params).out);
            pooled.data = scratch_or_throw(Scratch::pooled, floats_for(pooled_vectors * pooled.plane));
        }
        const ResultView result = has_linear_ ? pooled.to_write(dtype_, lanes_) : y_;

        // As many images as the threads can take whole; the others in segments.
        const int64_t whole = batch_ / parallel.threads * parallel.threads;
        run_whole_images(whole, body, result, parallel);
        if (whole < batch_) run_images(whole, batch_ - whole, body, result, parallel);
        if (has_linear_) run_linear_on(pooled.to_read(lanes_), parallel);
    }

private:
    int64_t vectors(int64_t channels) const { return vector_count(channels, kernels_.layout); }
    ScalarType stored() const { return kernels_.layout.stored; }
    int64_t floats_for(int64_t elements) const { return stored_floats(elements, kernels_.layout); }

    double* seconds_of(size_t layer, int64_t first_image) const
    {
        return layer_seconds_ && first_image == 0 ? layer_seconds_ + layer : nullptr;
    }

    static int64_t pixels_of(const NetworkLayer& layer)
    {
        const ImageSize size = result_size(layer);
        return size.height * size.width;
    }

    // (N, C) vectors as the rows of one image.
    static ImageView vectors_as_rows(ImageView x)
    {
        x.stride_h = x.stride_n;
        return x;
    }

    void run_linear_on(const ImageView& x, const Parallel& parallel) const
    {
        const NetworkLayer& linear = layers_.back();
        const Stopwatch stopwatch(seconds_of(layers_.size() - 1, 0));
        run_linear(kernels_, std::get<LinearParams>(linear.params), x, linear.packed, y_, parallel);
    }

    // Images [0, count), each by one thread through all `body` layers of images.
    void run_whole_images(int64_t count, size_t body, const ResultView& result, const Parallel& parallel) const
    {
        struct Context {
            const NetworkRun& run;
            size_t body;
            const ResultView& result;
            std::atomic<bool> out_of_memory;
        } context{*this, body, result, false};
        const auto run_range = [](void* opaque, int64_t begin, int64_t end) {
            auto& shared = *static_cast<Context*>(opaque);
            try {
                for (int64_t n = begin; n < end; ++n) shared.run.run_images(n, 1, shared.body, shared.result, {});
            } catch (const std::bad_alloc&) {
                shared.out_of_memory = true;
            }
        };
        parallel.run(count, run_range, &context);
        if (context.out_of_memory) throw std::bad_alloc();
    }

    // Images [first, first + count) through the first `body` layers.
    void run_images(int64_t first, int64_t count, size_t body, const ResultView& result, const Parallel& parallel) const
    {
        float* areas[] = {nullptr, nullptr};
        allocate(count, body, areas);
        ImageView x = image_of(x_, first);
        for (size_t layer = 0, stage = 0; layer < body; layer += layers_in_stage(layer), ++stage) {
            const size_t last = last_of_stage(layer);
            const Stopwatch stopwatch(seconds_of(last, first));
            if (last + 1 == body) return run_stage(layer, count, x, image_of(result, first), parallel);
            const BlockedImages between = result_of(last, areas[stage % 2]);
            run_stage(layer, count, x, between.to_write(dtype_, lanes_), parallel);
            x = between.to_read(lanes_);
        }
    }

    // Two areas, in which the results of consecutive stages take turns; the last stage has a result of its own. A stage is a
    // layer, or a stem with the block behind it.
    void allocate(int64_t count, size_t body, float* (&areas)[2]) const
    {
        int64_t floats[] = {0, 0};
        for (size_t layer = 0, stage = 0; last_of_stage(layer) + 1 < body; layer += layers_in_stage(layer), ++stage) {
            const int64_t needed = floats_for(count * result_of(last_of_stage(layer), nullptr).stride_n);
            floats[stage % 2] = std::max(floats[stage % 2], needed);
        }
        areas[0] = scratch_or_throw(Scratch::images, floats[0] + floats[1]);
        areas[1] = areas[0] + floats[0];
    }

    // Whether a stem's results go straight into the block behind it.
    bool is_stem_with_block(size_t layer) const
    {
        if (!std::holds_alternative<StemParams>(layers_[layer].params) || layer + 1 == layers_.size()) return false;
        const auto* block = std::get_if<InvertedResidualParams>(&layers_[layer + 1].params);
        return block && !block->has_expand && !block->has_residual;
    }
    size_t layers_in_stage(size_t layer) const { return is_stem_with_block(layer) ? 2 : 1; }
    size_t last_of_stage(size_t layer) const { return layer + layers_in_stage(layer) - 1; }

    BlockedImages result_of(size_t layer, float* data) const
    {
        const auto image = [&](const auto& params) -> BlockedImages {
            if constexpr (requires { params.padding; }) {
                const int64_t plane = plane_elements(params.out_height() * params.out_width(), kernels_.layout);
                return {data, stored(), params.out_width(), vectors(params.out_channels) * plane, plane};
            }
            return {};
        };
        return std::visit(image, layers_[layer].params);
    }

    void run_stage(size_t index, int64_t count, const ImageView& x, const ResultView& y, const Parallel& parallel) const
    {
        const NetworkLayer& layer = layers_[index];
        if (std::holds_alternative<InvertedResidualParams>(layer.params))
            return run_block(kernels_, of_batch<InvertedResidualParams>(layer, count), x, layer.packed, y, parallel);
        if (std::holds_alternative<HeadPoolParams>(layer.params))
            return run_head_pool(kernels_, of_batch<HeadPoolParams>(layer, count), x, layer.packed, y, parallel);
        const StemParams stem = of_batch<StemParams>(layer, count);
        if (!is_stem_with_block(index)) return run_stem(kernels_, stem, x, layer.packed, y, parallel);
        const NetworkLayer& block = layers_[index + 1];
        run_stem_and_block(kernels_, stem, of_batch<InvertedResidualParams>(block, count), x, layer.packed, block.packed, y,
                           parallel);
    }

    const std::vector<NetworkLayer>& layers_;
    double* layer_seconds_;
    const Kernels& kernels_;
    int64_t lanes_, batch_;
    bool has_linear_;
    ScalarType dtype_;
    ImageView x_;
    ResultView y_;
};

}  // namespace

void network(const std::vector<NetworkLayer>& layers, const InputView& x, void* y, const Parallel& parallel,
             double* layer_seconds)
{
    NetworkRun(layers, x, y, layer_seconds).run(parallel);
}

}  // namespace mnv2::cpu
