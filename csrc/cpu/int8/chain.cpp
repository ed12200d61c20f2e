#include "cpu/int8/chain.h"

#include <algorithm>
#include <atomic>
#include <new>
#include <variant>

#include "core/sizes.h"
#include "cpu/run/scratch.h"

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
    ChainRun(const Kernels& kernels, const std::vector<NetworkLayer>& layers, const ByteView& x, const void* packed, void* y)
        : kernels_(kernels),
          layers_(layers),
          x_(x),
          packed_(static_cast<const uint8_t*>(packed)),
          y_(static_cast<uint8_t*>(y)),
          input_(input_of(layers.front().params)),
          result_(result_of(layers.back())),
          is_float_(find<LinearParams>(layers.back())),
          y_stride_(result_.channels * result_.pixels() * (is_float_ ? float_bytes : 1)),
          area_bytes_(find<StemParams>(layers.front()) ? 0 : input_.bytes())
    {
        for (size_t index = 0; index < layers.size(); ++index) {
            area_bytes_ = std::max(area_bytes_, result_of(layers[index]).bytes());
            scratch_bytes_ = std::max(scratch_bytes_, layer_scratch_bytes(index));
        }
    }

    int64_t memory_bytes() const { return 2 * area_bytes_ + scratch_bytes_; }

    // One image, in memory_bytes().
    void run(int64_t image, uint8_t* memory) const
    {
        uint8_t* const areas[] = {memory, memory + area_bytes_};
        uint8_t* const scratch = memory + 2 * area_bytes_;
        const ByteView view{x_.data + image * x_.stride_n, x_.stride_n, x_.stride_c, x_.stride_h, x_.stride_w};
        uint8_t* const y = y_ + image * y_stride_;

        BlockedImage x{areas[1], plane_bytes(input_.pixels())};
        if (!find<StemParams>(layers_.front())) load_image(view, input_.channels, input_.height, input_.width, x);
        for (size_t index = 0, turn = 0; index < layers_.size(); ++index, ++turn) {
            if (find<LinearParams>(layers_[index])) return run_linear_on(layers_[index], x, y, scratch);
            const size_t last = is_stem_with_block(index) ? index + 1 : index;
            const BlockedImage next{areas[turn % 2], plane_bytes(result_of(layers_[last]).pixels())};
            run_layer(index, view, x, next, scratch);
            x = next;
            index = last;
        }
        store_image(x, result_.channels, result_.pixels(), y);
    }

private:
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
        if (const auto* head = find<HeadPoolParams>(layer)) return head_scratch_bytes(*head);
        return linear_scratch_bytes(*find<LinearParams>(layer));
    }

    // A stem, alone or with the block behind it, reads the image; the others what the layer before left.
    void run_layer(size_t index, const ByteView& image, const BlockedImage& x, const BlockedImage& y, uint8_t* scratch) const
    {
        const NetworkLayer& layer = layers_[index];
        const uint8_t* const packed = packed_of(layer);
        if (const auto* block = find<InvertedResidualParams>(layer)) return run_block(kernels_, *block, packed, x, y, scratch);
        if (const auto* head = find<HeadPoolParams>(layer)) return run_head_pool(kernels_, *head, packed, x, y, scratch);
        const auto& stem = *find<StemParams>(layer);
        if (!is_stem_with_block(index)) return run_stem(kernels_, stem, packed, image, y, scratch);
        const NetworkLayer& next = layers_[index + 1];
        run_stem_and_block(kernels_, stem, *find<InvertedResidualParams>(next), packed, packed_of(next), image, y, scratch);
    }

    void run_linear_on(const NetworkLayer& layer, const BlockedImage& x, uint8_t* y, uint8_t* scratch) const
    {
        run_linear(kernels_, *find<LinearParams>(layer), packed_of(layer), x, reinterpret_cast<float*>(y), scratch);
    }

    const Kernels& kernels_;
    const std::vector<NetworkLayer>& layers_;
    ByteView x_;
    const uint8_t* packed_;
    uint8_t* y_;
    ImageShape input_, result_;
    bool is_float_;
    int64_t y_stride_, area_bytes_, scratch_bytes_ = 0;
};

}  // namespace

void run_chain(const Kernels& kernels, const std::vector<NetworkLayer>& layers, const ByteView& x, const void* packed, void* y,
               const Parallel& parallel)
{
    struct Context {
        ChainRun run;
        std::atomic<bool> out_of_memory;
    } context{ChainRun(kernels, layers, x, packed, y), false};
    const auto run_range = [](void* opaque, int64_t begin, int64_t end) {
        auto& shared = *static_cast<Context*>(opaque);
        float* const memory = thread_scratch(Scratch::images, shared.run.memory_bytes());
        if (!memory) {
            shared.out_of_memory = true;
            return;
        }
        for (int64_t image = begin; image < end; ++image) shared.run.run(image, reinterpret_cast<uint8_t*>(memory));
    };
    parallel.run(std::visit([](const auto& params) { return params.batch; }, layers.front().params), run_range, &context);
    if (context.out_of_memory) throw std::bad_alloc();
}

}  // namespace mnv2::cpu::int8
