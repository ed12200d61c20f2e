#include "cpu/measure/block_run.h"

#include <algorithm>
#include <new>
#include <vector>

#include "core/packing.h"
#include "core/sizes.h"
#include "cpu/run/schedule.h"

namespace mnv2::cpu {
namespace {

constexpr int64_t line_bytes = 64;

// The values do not matter as long as they stay normal numbers.
void fill(float* values, int64_t count)
{
    for (int64_t i = 0; i < count; ++i) values[i] = static_cast<float>(i % 17) * 0.01f - 0.08f;
}

int64_t input_floats(const InvertedResidualParams& params)
{
    return params.batch * params.height * params.width * params.in_channels;
}

int64_t result_floats(const InvertedResidualParams& params)
{
    return params.batch * params.out_height() * params.out_width() * params.out_channels;
}

int64_t bytes_of_floats(int64_t floats)
{
    return floats * static_cast<int64_t>(sizeof(float));
}

BlockCuts cuts_of(const InvertedResidualParams& params, const PackLayout& layout, const CacheSizes& caches, const BlockWay& way)
{
    if (!way.fused) return unfused_cuts(params, layout);
    if (way.chunks) return cuts_by_chunks(params, layout, way.chunks);
    return choose_cuts(params, layout, caches, 1);
}

void pack_some_weights(const InvertedResidualParams& params, const PackLayout& layout, void* packed)
{
    const int64_t deepest = std::max({params.in_channels, params.out_channels, params.taps(), params.squeezed_channels});
    std::vector<float> weight(static_cast<size_t>(params.expanded_channels * deepest));
    fill(weight.data(), static_cast<int64_t>(weight.size()));
    const ConvolutionWeights weights{weight.data(), nullptr, nullptr};
    pack_block(params, {weights, weights, weights, weights, weights}, layout, packed);
}

}  // namespace

LineBuffer::LineBuffer(int64_t bytes)
{
    const int64_t lines = std::max<int64_t>(divide_up(bytes, line_bytes), 1);
    memory_.reset(std::aligned_alloc(line_bytes, static_cast<size_t>(lines * line_bytes)));
    if (!memory_) throw std::bad_alloc();
}

BlockRun::BlockRun(const InvertedResidualParams& params, const Kernels& kernels, const CacheSizes& caches, const BlockWay& way)
    : params_(params),
      kernels_(kernels),
      fused_(way.fused),
      plan_(plan_block(params, kernels.layout, cuts_of(params, kernels.layout, caches, way))),
      strip_rows_(unfused_strip_rows(params, kernels.layout, caches)),
      copies_{make_copy(), make_copy()},
      scratch_(plan_.scratch_bytes),
      gated_(bytes_of_floats(params.has_gate() ? plan_.depthwise_out_floats + plan_.means_floats : 0))
{
}

BlockRun::Copy BlockRun::make_copy() const
{
    Copy copy{LineBuffer(bytes_of_floats(input_floats(params_))), LineBuffer(packed_bytes(params_, kernels_.layout)),
              LineBuffer(bytes_of_floats(result_floats(params_)))};
    fill(copy.x.floats(), input_floats(params_));
    pack_some_weights(params_, kernels_.layout, copy.packed.data());
    return copy;
}

void BlockRun::run(int copy) const
{
    const Copy& on = copies_[copy];
    const int64_t channels = params_.in_channels, pixels = params_.out_height() * params_.out_width();
    const ImageView x = view_of(
        {on.x.data(), ScalarType::float32, params_.height * params_.width * channels, 1, params_.width * channels, channels},
        kernels_);
    const ResultView y = nhwc_result(on.y.data(), ScalarType::float32, pixels, params_.out_channels, kernels_);
    for (int64_t n = 0; n < params_.batch; ++n) {
        BlockTask task{&params_,       &plan_, image_of(x, n),       packed_values(on.packed.data()),
                       image_of(y, n), 0,      params_.out_height(), scratch_.floats()};
        if (params_.has_gate()) {
            task.depthwise_out = gated_.data();
            task.means = gated_.floats() + plan_.depthwise_out_floats;
        }
        if (!fused_)
            kernels_.unfused_inverted_residual(task, strip_rows_);
        else if (params_.has_gate())
            run_gated(task);
        else
            kernels_.inverted_residual(task);
    }
}

void BlockRun::run_gated(const BlockTask& task) const
{
    BlockTask of_vectors = task;
    of_vectors.end = vector_count(params_.expanded_channels, kernels_.layout);
    kernels_.gate_depthwise(of_vectors);
    kernels_.gate_project(task);
}

void replace_cache(int64_t bytes)
{
    const LineBuffer memory(bytes);
    const auto* const lines = static_cast<const volatile char*>(memory.data());
    for (int64_t byte = 0; byte < bytes; byte += line_bytes) static_cast<void>(lines[byte]);
}

}  // namespace mnv2::cpu

// Each has something that no compiler removes, or takes for the other one's.
void mnv2_count_begin()
{
    __asm__ volatile("# begin" ::: "memory");
}

void mnv2_count_end()
{
    __asm__ volatile("# end" ::: "memory");
}
