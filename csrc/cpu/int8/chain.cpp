#include "cpu/int8/chain.h"

#include <algorithm>
#include <atomic>
#include <new>
#include <variant>

#include "core/sizes.h"
#include "cpu/run/scratch.h"
#include "cpu/run/stopwatch.h"

namespace mnv2::cpu::int8 {
namespace {

constexpr int64_t line_bytes = 64;

// Bytes of one image and, of its result, the pixels.
struct ImageShape {
    int64_t channels, height, width;

    int64_t pixels() const { return height * width; }
    int64_t bytes() const { return round_up(blocked_bytes(channels, pixels()), line_bytes); }
};

ImageShape input_of(const LayerParams& params)
{
    const auto shape = [&](const auto& layer) -> ImageShape {
        if constexpr (requires { layer.height; })
            return {layer.in_channels, layer.height, layer.width};
        else
            return {layer.in_features, 1, 1};
    };
    return std::visit(shape, params);
}

ImageShape result_of(const NetworkLayer& layer)
{
    const ImageSize size = result_size(layer);
    return {channels_of(layer.params).out, size.height, size.width};
}

template <class Params>
const Params* find(const NetworkLayer& layer)
{
    return std::get_if<Params>(&layer.params);
}

class ChainRun {
public:
    ChainRun(const Kernels& kernels, const std::vector<NetworkLayer>& layers, const ImageView& x, const void* packed, void* y,
             double* layer_seconds)
        : kernels_(kernels),
          layers_(layers),
          x_(x),
          packed_(static_cast<const uint8_t*>(packed)),
          y_(static_cast<uint8_t*>(y)),
          layer_seconds_(layer_seconds),
          input_(input_of(layers.front().params)),
          result_(result_of(layers.back())),
          linear_(find<LinearParams>(layers.back())),
          image_layers_(layers.size() - (linear_ ? 1 : 0)),
          y_stride_(result_.channels * result_.pixels() * (linear_ ? float_bytes : 1)),
          area_bytes_(find<StemParams>(layers.front()) ? 0 : input_.bytes())
    {
        if (linear_) scratch_bytes_ = linear_scratch_bytes(*linear_);
        for (size_t index = 0; index < image_layers_; ++index) {
            area_bytes_ = std::max(area_bytes_, result_of(layers[index]).bytes());
            scratch_bytes_ = std::max(scratch_bytes_, layer_scratch_bytes(index));
            if (const auto* block = find<InvertedResidualParams>(layers[index]))
                depthwise_out_bytes_ = std::max(depthwise_out_bytes_, depthwise_out_bytes(*block));
        }
    }

    // What holds activations between layers, and what a task computes in.
    int64_t memory_bytes() const { return 2 * area_bytes_ + depthwise_out_bytes_ + features_bytes(); }
    int64_t scratch_bytes() const { return scratch_bytes_; }

    // At most most_linear_pixels images, whose features wait for the linear layer, in memory_bytes(). execute(step) calls
    // step(segment, scratch) for all segments of one number of them.
    template <class Execute>
    void run(int64_t first, int64_t count, uint8_t* memory, const Execute& execute) const
    {
        const BlockedImage features{memory + 2 * area_bytes_ + depthwise_out_bytes_, plane_bytes(count)};
        for (int64_t image = 0; image < count; ++image) run_image(first + image, memory, features, image, execute);
        if (!linear_) return;
        auto* const y = reinterpret_cast<float*>(y_ + first * y_stride_);
        const bool is_timed = layer_seconds_ && first == 0;
        double seconds = 0.0;
        {
            const Stopwatch stopwatch(is_timed ? &seconds : nullptr);
            execute([&](const Segment& segment, uint8_t* scratch) {
                run_linear(kernels_, *linear_, packed_of(layers_.back()), features, count, y, segment, scratch);
            });
        }
        if (is_timed) layer_seconds_[image_layers_] += seconds / static_cast<double>(count);
    }

private:
    int64_t features_bytes() const { return linear_ ? blocked_bytes(linear_->in_features, most_linear_pixels) : 0; }

    // All layers in front of a linear one, whose features are the given pixel.
    template <class Execute>
    void run_image(int64_t image, uint8_t* memory, const BlockedImage& features, int64_t pixel, const Execute& execute) const
    {
        uint8_t* const areas[] = {memory, memory + area_bytes_};
        uint8_t* const depthwise_out = memory + 2 * area_bytes_;
        ImageView view = x_;
        view.data += image * x_.stride_n;
        if (image_layers_ == 0) return load_image(view, linear_->in_features, 1, 1, features, pixel);

        BlockedImage x{areas[1], plane_bytes(input_.pixels())};
        if (!find<StemParams>(layers_.front())) load_image(view, input_.channels, input_.height, input_.width, x);
        for (size_t index = 0, turn = 0; index < image_layers_; ++index, ++turn) {
            const NetworkLayer& layer = layers_[index];
            const uint8_t* const packed = packed_of(layer);
            const size_t last = is_stem_with_block(index) ? index + 1 : index;
            const Stopwatch stopwatch(layer_seconds_ && image == 0 ? layer_seconds_ + last : nullptr);
            const BlockedImage next{areas[turn % 2], plane_bytes(result_of(layers_[last]).pixels())};
            if (const auto* stem = find<StemParams>(layer))
                run_stem_at(*stem, index, view, next, execute);
            else if (const auto* head = find<HeadPoolParams>(layer))
                execute([&](const Segment& segment, uint8_t* scratch) {
                    run_head_pool(kernels_, *head, packed, x, linear_ ? features : next, linear_ ? pixel : 0, segment, scratch);
                });
            else
                run_block_on(*find<InvertedResidualParams>(layer), packed, x, next, depthwise_out, execute);
            x = next;
            index = last;
        }
        if (!linear_) store_image(x, result_.channels, result_.pixels(), y_ + image * y_stride_);
    }

    const uint8_t* packed_of(const NetworkLayer& layer) const { return packed_ + layer.packed_at; }

    // Whether a stem's results go straight into the block behind it.
    bool is_stem_with_block(size_t index) const
    {
        if (!find<StemParams>(layers_[index]) || index + 1 == layers_.size()) return false;
        const auto* block = find<InvertedResidualParams>(layers_[index + 1]);
        return block && !block->has_expand && !block->has_residual;
    }

    int64_t layer_scratch_bytes(size_t index) const
    {
        const NetworkLayer& layer = layers_[index];
        if (is_stem_with_block(index))
            return stem_and_block_scratch_bytes(*find<StemParams>(layer), *find<InvertedResidualParams>(layers_[index + 1]));
        if (const auto* stem = find<StemParams>(layer)) return stem_scratch_bytes(*stem);
        if (const auto* block = find<InvertedResidualParams>(layer)) return block_scratch_bytes(*block);
        return head_scratch_bytes(*find<HeadPoolParams>(layer));
    }

    // Alone or with the block behind it.
    template <class Execute>
    void run_stem_at(const StemParams& stem, size_t index, const ImageView& image, const BlockedImage& y,
                     const Execute& execute) const
    {
        const uint8_t* const packed = packed_of(layers_[index]);
        if (!is_stem_with_block(index))
            return execute([&](const Segment& segment, uint8_t* scratch) {
                run_stem(kernels_, stem, packed, image, y, segment, scratch);
            });
        const NetworkLayer& next = layers_[index + 1];
        const auto& block = *find<InvertedResidualParams>(next);
        execute([&](const Segment& segment, uint8_t* scratch) {
            run_stem_and_block(kernels_, stem, block, packed, packed_of(next), image, y, segment, scratch);
        });
    }

    template <class Execute>
    void run_block_on(const InvertedResidualParams& block, const uint8_t* packed, const BlockedImage& x, const BlockedImage& y,
                      uint8_t* depthwise_out, const Execute& execute) const
    {
        if (is_by_rows(block))
            return execute([&](const Segment& segment, uint8_t* scratch) {
                run_block_rows(kernels_, block, packed, x, y, segment, scratch);
            });
        execute([&](const Segment& segment, uint8_t* scratch) {
            run_expand_and_depthwise(kernels_, block, packed, x, depthwise_out, segment, scratch);
        });
        execute([&](const Segment& segment, uint8_t*) { run_project(kernels_, block, packed, depthwise_out, x, y, segment); });
    }

    const Kernels& kernels_;
    const std::vector<NetworkLayer>& layers_;
    ImageView x_;
    const uint8_t* packed_;
    uint8_t* y_;
    double* layer_seconds_;
    ImageShape input_, result_;
    const LinearParams* linear_;  // the last layer, or null
    size_t image_layers_;         // those in front of it
    int64_t y_stride_, area_bytes_, scratch_bytes_ = 0, depthwise_out_bytes_ = 0;
};

uint8_t* scratch_of(Scratch use, int64_t bytes)
{
    return reinterpret_cast<uint8_t*>(thread_scratch(use, bytes));
}

// Runs body(begin, end) over [0, tasks) on the threads; a body returns false where there is no memory.
template <class Body>
void on_threads(const Parallel& parallel, int64_t tasks, const Body& body)
{
    struct Context {
        const Body& body;
        std::atomic<bool> out_of_memory;
    } context{body, false};
    const auto run_range = [](void* opaque, int64_t begin, int64_t end) {
        auto& shared = *static_cast<Context*>(opaque);
        if (!shared.body(begin, end)) shared.out_of_memory = true;
    };
    parallel.run(tasks, run_range, &context);
    if (context.out_of_memory) throw std::bad_alloc();
}

// Images [0, count), each by one thread.
void run_whole_images(const ChainRun& run, int64_t count, const Parallel& parallel)
{
    on_threads(parallel, count, [&](int64_t begin, int64_t end) {
        uint8_t* const memory = scratch_of(Scratch::images, run.memory_bytes());
        uint8_t* const scratch = scratch_of(Scratch::task, run.scratch_bytes());
        if (!memory || !scratch) return false;
        for (int64_t first = begin; first < end; first += most_linear_pixels)
            run.run(first, std::min(most_linear_pixels, end - first), memory,
                    [&](const auto& step) { step(Segment{}, scratch); });
        return true;
    });
}

// One image by all threads.
void run_shared_image(const ChainRun& run, int64_t image, const Parallel& parallel)
{
    uint8_t* const memory = scratch_of(Scratch::images, run.memory_bytes());
    if (!memory) throw std::bad_alloc();
    run.run(image, 1, memory, [&](const auto& step) {
        on_threads(parallel, parallel.threads, [&](int64_t begin, int64_t end) {
            uint8_t* const scratch = scratch_of(Scratch::task, run.scratch_bytes());
            if (!scratch) return false;
            for (int64_t index = begin; index < end; ++index) step(Segment{index, parallel.threads}, scratch);
            return true;
        });
    });
}

}  // namespace

void run_chain(const Kernels& kernels, const std::vector<NetworkLayer>& layers, const ImageView& x, const void* packed, void* y,
               const Parallel& parallel, double* layer_seconds)
{
    const ChainRun run(kernels, layers, x, packed, y, layer_seconds);
    const int64_t batch = std::visit([](const auto& params) { return params.batch; }, layers.front().params);
    const int64_t whole = batch / parallel.threads * parallel.threads;
    run_whole_images(run, whole, parallel);
    for (int64_t image = whole; image < batch; ++image) run_shared_image(run, image, parallel);
}

}  // namespace mnv2::cpu::int8
