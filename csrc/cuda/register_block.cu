#include "cuda/register_block.cuh"

#include <algorithm>
#include <cstring>
#include <tuple>

#include "cuda/launch.h"

namespace mnv2::cuda {
namespace {

// Patch, warps and blocks per SM: what was fastest on an H100 at batch 256 among those that spill nowhere
// (benchmarks/NOTES.md). Larger patches expand fewer halo pixels, but their fragments fill the registers.
template <class T>
using RegisterBlocks = std::tuple<RegisterBlock<T, 16, 24, 2, 3, 2, 4, 2>, RegisterBlock<T, 24, 24, 1, 4, 2, 4, 2>,
                                  RegisterBlock<T, 24, 32, 2, 2, 2, 4, 2>, RegisterBlock<T, 32, 32, 1, 2, 2, 4, 2>,
                                  RegisterBlock<T, 32, 64, 2, 2, 1, 4, 3>>;

constexpr int64_t max_shared_bytes = 160 << 10;  // of a block on sm_80, with room to spare

int64_t step_count(const InvertedResidualParams& params)
{
    return (params.expanded_channels + step_channels - 1) / step_channels;
}

template <class Block>
bool serves(const InvertedResidualParams& params)
{
    return params.has_expand && params.in_channels == Block::in_channels && params.out_channels == Block::out_channels &&
           params.stride == Block::stride && params.activation != Activation::none &&
           params.project_activation == Activation::none && step_count(params) * Block::step_bytes <= max_shared_bytes;
}

// Calls visit(Block) for the kernel that serves params; false where none does.
template <class T, class Visit>
bool visit_block(const InvertedResidualParams& params, const Visit& visit)
{
    return std::apply([&](auto... blocks) { return ((serves<decltype(blocks)>(params) && (visit(blocks), true)) || ...); },
                      RegisterBlocks<T>{});
}

template <class Visit>
bool visit_block(const InvertedResidualParams& params, ScalarType type, const Visit& visit)
{
    switch (type) {
        case ScalarType::float16: return visit_block<__half>(params, visit);
        case ScalarType::bfloat16: return visit_block<__nv_bfloat16>(params, visit);
        case ScalarType::float32: break;
    }
    return false;
}

// weight[channel][k] with its scale, 0 beyond the last channel or k; rounded once.
template <class T>
T scaled(const ConvolutionWeights& layer, int64_t channels, int64_t depth, int64_t channel, int64_t k)
{
    const bool exists = channel < channels && k < depth;
    return T(exists ? layer.weight[channel * depth + k] * layer.scale_of(channel) : 0.0f);
}

// One half of a step: eight expanded channels from first on.
template <class Block>
void pack_half(const InvertedResidualParams& params, const ConvolutionWeights& expand, const ConvolutionWeights& depthwise,
               int64_t first, uint8_t* to)
{
    using T = typename Block::T;
    T* fragment = reinterpret_cast<T*>(to);
    for (int depth = 0; depth < Block::in_channels; depth += 16) {
        const bool whole = Block::in_channels - depth >= 16;
        for (int lane = 0; lane < 32; ++lane) {
            for (int i = 0; i < (whole ? 4 : 2); ++i)
                *fragment++ = scaled<T>(expand, params.expanded_channels, params.in_channels, first + lane / 4,
                                        depth + lane % 4 * (whole ? 4 : 2) + i);
        }
    }
    for (int quad = 0; quad < 4; ++quad) {
        HalfConstants<T> constants{};
        for (int i = 0; i < 2; ++i) {
            const int64_t channel = first + quad * 2 + i;
            if (channel >= params.expanded_channels) continue;
            constants.expand_bias[i] = constants.expand_bias[i + 2] = expand.bias_of(channel);
            constants.depthwise_bias[i] = T(depthwise.bias_of(channel));
            for (int tap = 0; tap < kernel_taps; ++tap)
                constants.taps[tap][i] = scaled<T>(depthwise, params.expanded_channels, kernel_taps, channel, tap);
        }
        std::memcpy(to + Block::expand_bytes + quad * sizeof constants, &constants, sizeof constants);
    }
}

// The projection's fragments for 16 expanded channels from first on, columns in the order of first_channel.
template <class Block>
void pack_project(const InvertedResidualParams& params, const ConvolutionWeights& project, int64_t first, uint8_t* to)
{
    using T = typename Block::T;
    T* fragment = reinterpret_cast<T*>(to);
    for (int n = 0; n < Block::column_tiles; ++n) {
        for (int lane = 0; lane < 32; ++lane) {
            const int column = lane / 4;
            const int channel = first_channel<Block>(n, column / 2) + column % 2;
            for (const int k : {0, 1, 8, 9})
                *fragment++ =
                    scaled<T>(project, params.out_channels, params.expanded_channels, channel, first + lane % 4 * 2 + k);
        }
    }
}

template <class Block>
void pack(const InvertedResidualParams& params, const ConvolutionWeights& expand, const ConvolutionWeights& depthwise,
          const ConvolutionWeights& project, uint8_t* to)
{
    for (int channel = 0; channel < Block::out_channels; ++channel)
        reinterpret_cast<float*>(to)[channel] = project.bias_of(channel);
    to += Block::bias_bytes;
    for (int64_t first = 0; first < params.expanded_channels; first += step_channels) {
        for (int half = 0; half < 2; ++half, to += Block::half_bytes)
            pack_half<Block>(params, expand, depthwise, first + half * half_channels, to);
        pack_project<Block>(params, project, first, to);
        to += Block::column_tiles * fragment16_bytes;
    }
}

int round_up_division(int64_t value, int64_t divisor)
{
    return static_cast<int>((value + divisor - 1) / divisor);
}

template <class Block>
void run(const InvertedResidualParams& params, const void* x, const void* packed, void* y, int sm_count, Stream stream)
{
    RegisterBlockArguments arguments{};
    arguments.input = x;
    arguments.output = y;
    arguments.packed = static_cast<const uint8_t*>(packed);
    arguments.steps = static_cast<int>(step_count(params));
    arguments.height = static_cast<int>(params.height);
    arguments.width = static_cast<int>(params.width);
    arguments.out_height = static_cast<int>(params.out_height());
    arguments.out_width = static_cast<int>(params.out_width());
    arguments.padding_top = params.padding.top;
    arguments.padding_left = params.padding.left;
    arguments.patch_rows = round_up_division(params.out_height(), Block::patch_height);
    arguments.patch_columns = round_up_division(params.out_width(), Block::patch_width);
    arguments.patches = params.batch * arguments.patch_rows * static_cast<int64_t>(arguments.patch_columns);
    arguments.high = clamp_of(params.activation).high;
    arguments.residual = params.has_residual;

    const int64_t full = static_cast<int64_t>(sm_count) * Block::blocks_per_sm;
    const int64_t needed = (arguments.patches + Block::warps * patches_per_warp - 1) / (Block::warps * patches_per_warp);
    const auto blocks = static_cast<unsigned>(std::min(full, needed));
    if (blocks == 0) return;
    launch_kernel(register_block_kernel<Block>, dim3(blocks), dim3(32 * Block::warps), arguments.steps * Block::step_bytes,
                  stream, arguments);
}

}  // namespace

int64_t register_block_bytes(const InvertedResidualParams& params, ScalarType type)
{
    int64_t bytes = 0;
    visit_block(params, type, [&](auto block) {
        using Block = decltype(block);
        bytes = Block::bias_bytes + step_count(params) * Block::step_bytes;
    });
    return bytes;
}

bool pack_register_block(const InvertedResidualParams& params, ScalarType type, const ConvolutionWeights& expand,
                         const ConvolutionWeights& depthwise, const ConvolutionWeights& project, void* packed)
{
    return visit_block(params, type, [&](auto block) {
        pack<decltype(block)>(params, expand, depthwise, project, static_cast<uint8_t*>(packed));
    });
}

bool register_block(const InvertedResidualParams& params, ScalarType type, const void* x, const void* packed, void* y,
                    int sm_count, Stream stream)
{
    return visit_block(params, type, [&](auto block) { run<decltype(block)>(params, x, packed, y, sm_count, stream); });
}

}  // namespace mnv2::cuda
