#include "cuda/register_block.cuh"

#include <algorithm>
#include <cstddef>
#include <tuple>

#include "cuda/launch.h"
#include "cuda/pack_words.cuh"
#include "cuda/sizes.h"

namespace mnv2::cuda {
namespace {

// Patch, warps and blocks per SM: what was fastest on an H100 at batch 256 among those that spill nowhere
// (benchmarks/NOTES.md). Larger patches expand fewer halo pixels, but their fragments fill the registers.
template <class T>
using RegisterBlocks = std::tuple<RegisterBlock<T, 16, 24, 2, 3, 2, 4, 2>, RegisterBlock<T, 24, 24, 1, 4, 2, 4, 2>,
                                  RegisterBlock<T, 24, 32, 2, 2, 2, 4, 2>, RegisterBlock<T, 32, 32, 1, 2, 2, 4, 2>,
                                  RegisterBlock<T, 32, 64, 2, 2, 1, 4, 3>>;

int64_t step_count(const InvertedResidualParams& params)
{
    return params.expanded_channels / step_channels;
}

template <class Block>
int64_t packed_bytes(const InvertedResidualParams& params)
{
    return Block::bias_bytes + step_count(params) * Block::step_bytes;
}

// Whole steps only: a channel that merely fills one is 0 by its weights, but NaN where the image is infinite, as its outputs
// would be then.
template <class Block>
bool serves(const InvertedResidualParams& params)
{
    return params.has_expand && params.in_channels == Block::in_channels && params.out_channels == Block::out_channels &&
           params.expanded_channels % step_channels == 0 && params.stride == Block::stride &&
           params.activation != Activation::none && params.project_activation == Activation::none &&
           step_count(params) * Block::step_bytes <= max_shared_bytes;
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

// The packed weights of register_block.cuh, word by word; scales are multiplied into the weights, which are rounded once.
template <class Block>
struct RegisterBlockWords {
    using T = typename Block::T;
    static constexpr int word = sizeof(uint32_t);
    static constexpr int bias_words = Block::bias_bytes / word, step_words = Block::step_bytes / word;
    static constexpr int half_words = Block::half_bytes / word, expand_words = Block::expand_bytes / word;
    static constexpr int fragment_words = fragment16_bytes / word;
    static constexpr int constants_words = sizeof(HalfConstants<T>) / word;

    int64_t expanded_channels;
    ConvolutionWeights expand, depthwise, project;

    __device__ uint32_t operator()(int64_t i) const
    {
        if (i < bias_words) return ptx::float_word(project.bias_of(i));
        const int64_t first = (i - bias_words) / step_words * step_channels;
        const int at = static_cast<int>((i - bias_words) % step_words);
        if (at >= 2 * half_words) return project_word(first, at - 2 * half_words);
        return half_word(first + at / half_words * half_channels, at % half_words);
    }

private:
    // One half of a step: eight expanded channels from first on.
    __device__ uint32_t half_word(int64_t first, int at) const
    {
        if (at >= expand_words) return constants_word(first, at - expand_words);
        const int depth = at / fragment_words * 16;
        const bool whole = Block::in_channels - depth >= 16;
        const int lane = whole ? at % fragment_words / 2 : at % fragment_words;
        const int k = depth + (whole ? lane % 4 * 4 + at % 2 * 2 : lane % 4 * 2);
        return pair(expand, expanded_channels, Block::in_channels, first + lane / 4, k);
    }

    __device__ uint32_t constants_word(int64_t first, int at) const
    {
        constexpr int taps_at = offsetof(HalfConstants<T>, taps) / word;
        constexpr int bias_at = offsetof(HalfConstants<T>, depthwise_bias) / word;
        const int64_t channel = first + at / constants_words * 2;
        at %= constants_words;
        if (at < taps_at) return ptx::float_word(expand.bias_of(channel + at % 2));
        if (at < bias_at) {
            const int tap = at - taps_at;
            return ptx::pack2<T>(scaled_weight(depthwise, expanded_channels, kernel_taps, channel, tap),
                                 scaled_weight(depthwise, expanded_channels, kernel_taps, channel + 1, tap));
        }
        return at == bias_at ? ptx::pack2<T>(depthwise.bias_of(channel), depthwise.bias_of(channel + 1)) : 0u;
    }

    // The projection's fragments for 16 expanded channels from first on, columns in the order of first_channel.
    __device__ uint32_t project_word(int64_t first, int at) const
    {
        const int lane = at % fragment_words / 2, column = lane / 4;
        const int channel = first_channel<Block>(at / fragment_words, column / 2) + column % 2;
        return pair(project, Block::out_channels, expanded_channels, channel, first + lane % 4 * 2 + at % 2 * 8);
    }

    __device__ static uint32_t pair(const ConvolutionWeights& layer, int64_t channels, int64_t depth, int64_t channel,
                                    int64_t k)
    {
        return ptx::pack2<T>(scaled_weight(layer, channels, depth, channel, k),
                             scaled_weight(layer, channels, depth, channel, k + 1));
    }
};

template <class Block>
void run(const InvertedResidualParams& params, const void* x, const void* packed, void* y, const Gpu& gpu, Stream stream)
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
    arguments.patch_rows = static_cast<int>(divide_up(params.out_height(), Block::patch_height));
    arguments.patch_columns = static_cast<int>(divide_up(params.out_width(), Block::patch_width));
    arguments.patches = params.batch * arguments.patch_rows * static_cast<int64_t>(arguments.patch_columns);
    arguments.high = clamp_of(params.activation).high;
    arguments.residual = params.has_residual;

    const int64_t full = static_cast<int64_t>(gpu.sm_count) * Block::blocks_per_sm;
    const int64_t needed = divide_up(arguments.patches, Block::warps * patches_per_warp);
    const auto blocks = static_cast<unsigned>(std::min(full, needed));
    if (blocks == 0) return;
    launch_kernel(register_block_kernel<Block>, dim3(blocks), dim3(32 * Block::warps), arguments.steps * Block::step_bytes,
                  stream, arguments);
}

}  // namespace

int64_t register_block_bytes(const InvertedResidualParams& params, ScalarType type)
{
    int64_t bytes = 0;
    visit_block(params, type, [&](auto block) { bytes = packed_bytes<decltype(block)>(params); });
    return bytes;
}

bool pack_register_block(const InvertedResidualParams& params, ScalarType type, const ConvolutionWeights& expand,
                         const ConvolutionWeights& depthwise, const ConvolutionWeights& project, void* packed, Stream stream)
{
    return visit_block(params, type, [&](auto block) {
        using Block = decltype(block);
        const int64_t words = packed_bytes<Block>(params) / static_cast<int64_t>(sizeof(uint32_t));
        pack_words(RegisterBlockWords<Block>{params.expanded_channels, expand, depthwise, project}, words, packed, stream);
    });
}

bool register_block(const InvertedResidualParams& params, ScalarType type, const void* x, const void* packed, void* y,
                    const Gpu& gpu, Stream stream)
{
    return visit_block(params, type, [&](auto block) { run<decltype(block)>(params, x, packed, y, gpu, stream); });
}

}  // namespace mnv2::cuda
