#include "cpu/measure/int8_block_run.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "cpu/int8/block.h"
#include "cpu/int8/packing.h"

namespace mnv2::cpu {
namespace {

uint8_t* bytes_of(const LineBuffer& buffer)
{
    return static_cast<uint8_t*>(buffer.data());
}

// The values do not matter to what a block reads and writes.
void pack_some_weights(const InvertedResidualParams& params, const int8::Format& format, void* packed)
{
    const int64_t most = params.expanded_channels;
    const int64_t deepest = std::max({params.in_channels, params.out_channels, kernel_taps});
    const std::vector<int8_t> weight(static_cast<size_t>(most * deepest), 1);
    const std::vector<float> factors(static_cast<size_t>(std::max(most, params.out_channels)), 0.01f);
    const int8::ConvolutionWeights weights{weight.data(), factors.data(), factors.data()};
    int8::ConvolutionWeights project = weights;
    if (params.has_residual) project.shortcut = factors.data();
    int8::pack_block(params, weights, weights, project, format, packed);
}

}  // namespace

Int8BlockRun::Int8BlockRun(const InvertedResidualParams& params, const int8::Kernels& kernels)
    : params_(params),
      kernels_(kernels),
      copies_{make_copy(), make_copy()},
      task_scratch_(int8::block_scratch_bytes(params)),
      depthwise_out_(int8::depthwise_out_bytes(params))
{
}

Int8BlockRun::Copy Int8BlockRun::make_copy() const
{
    Copy copy{LineBuffer(input_bytes()), LineBuffer(packed_bytes()), LineBuffer(result_bytes())};
    std::memset(copy.x.data(), 1, static_cast<size_t>(input_bytes()));
    pack_some_weights(params_, kernels_.format, copy.packed.data());
    return copy;
}

void Int8BlockRun::run(int copy) const
{
    const Copy& on = copies_[copy];
    const uint8_t* const packed = bytes_of(on.packed);
    uint8_t* const scratch = bytes_of(task_scratch_);
    uint8_t* const depthwise_out = bytes_of(depthwise_out_);
    const int8::BlockedImage x{bytes_of(on.x), int8::plane_bytes(params_.height * params_.width)};
    const int8::BlockedImage y{bytes_of(on.y), int8::plane_bytes(params_.out_height() * params_.out_width())};
    if (int8::is_by_rows(params_)) return int8::run_block_rows(kernels_, params_, packed, x, y, {}, scratch);
    int8::run_expand_and_depthwise(kernels_, params_, packed, x, depthwise_out, {}, scratch);
    int8::run_project(kernels_, params_, packed, depthwise_out, x, y, {});
}

int64_t Int8BlockRun::packed_bytes() const
{
    return int8::packed_bytes(params_, kernels_.format);
}

int64_t Int8BlockRun::scratch_bytes() const
{
    return int8::block_scratch_bytes(params_) + int8::depthwise_out_bytes(params_);
}

int64_t Int8BlockRun::input_bytes() const
{
    return int8::blocked_bytes(params_.in_channels, params_.height * params_.width);
}

int64_t Int8BlockRun::result_bytes() const
{
    return int8::blocked_bytes(params_.out_channels, params_.out_height() * params_.out_width());
}

}  // namespace mnv2::cpu
