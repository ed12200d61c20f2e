#include "cuda/stem_block/kernel.cuh"

#include "cuda/common/forms.cuh"
#include "cuda/common/options.h"
#include "cuda/launch.h"
#include "cuda/stem_block/pack.cuh"

namespace mnv2::cuda {
namespace {

// The depthwise layer's products must not meet an infinity, which times 0 is NaN (kernel.cuh): relu6 lets none through.
bool serves(const StemParams& stem, const InvertedResidualParams& block, ScalarType type)
{
    return type != ScalarType::float32 && stem.in_channels == stem_channels && stem.out_channels == stem_block_channels &&
           stem.activation == Activation::relu6 && stem.kernel == kernel_size && !block.has_expand &&
           block.in_channels == stem_block_channels && block.out_channels == stem_block_out_channels && block.stride == 1 &&
           !unserved_option(block) && !block.has_residual;
}

constexpr int large_rows = 28, small_rows = 8;

// Calls visit<Block>() for what serves, with large tiles; false where nothing does.
template <class Visit>
bool visit_block(const StemParams& stem, const InvertedResidualParams& block, ScalarType type, const Visit& visit)
{
    if (!serves(stem, block, type)) return false;
    visit_half(type, [&]<class T>() {
        if (stem.stride == 1)
            visit.template operator()<StemBlock<T, 1, large_rows>>();
        else
            visit.template operator()<StemBlock<T, 2, large_rows>>();
    });
    return true;
}

template <class Block>
int64_t tiles_of_image(const InvertedResidualParams& block)
{
    return divide_up(block.out_height(), Block::rows) * divide_up(block.out_width(), Block::columns);
}

template <class Block>
void run(const StemParams& stem, const InvertedResidualParams& block, const InputView& x, const void* packed, void* y,
         const Gpu& gpu, Stream stream)
{
    StemBlockArguments arguments{};
    arguments.x = stem_input(stem, x);
    arguments.packed = static_cast<const uint32_t*>(packed);
    arguments.y = y;
    arguments.stem_padding_top = stem.padding.top;
    arguments.stem_padding_left = stem.padding.left;
    arguments.padding_top = block.padding.top;
    arguments.padding_left = block.padding.left;
    arguments.expanded_height = static_cast<int>(stem.out_height());
    arguments.expanded_width = static_cast<int>(stem.out_width());
    arguments.out_height = static_cast<int>(block.out_height());
    arguments.out_width = static_cast<int>(block.out_width());
    arguments.tile_rows = divide_up(arguments.out_height, Block::rows);
    arguments.tile_columns = divide_up(arguments.out_width, Block::columns);
    arguments.tiles = stem.batch * tiles_of_image<Block>(block);
    arguments.stem_high = clamp_of(stem.activation).high;
    arguments.high = clamp_of(block.activation_behind_depthwise()).high;

    const auto blocks = static_cast<unsigned>(resident_blocks(gpu, Block::blocks_per_sm, arguments.tiles));
    if (blocks == 0) return;
    launch_kernel(stem_block_kernel<Block>, dim3(blocks), dim3(Block::threads), Block::shared_bytes, stream, arguments);
}

}  // namespace

int64_t stem_block_bytes(const StemParams& stem, const InvertedResidualParams& block, ScalarType type)
{
    int64_t words = 0;
    visit_block(stem, block, type, [&]<class Block>() { words = Block::packed_words; });
    return words * static_cast<int64_t>(sizeof(uint32_t));
}

bool pack_stem_block(const StemParams& stem, const InvertedResidualParams& block, ScalarType type,
                     const ConvolutionWeights& stem_weights, const ConvolutionWeights& depthwise,
                     const ConvolutionWeights& project, void* packed, Stream stream)
{
    const LayerWeights first{stem_weights, stem_block_channels, stem_channels * kernel_taps};
    const BlockWeights layers(block, {}, depthwise, project);
    return visit_block(stem, block, type, [&]<class Block>() {
        pack_words(StemBlockWords<Block>{first, layers.depthwise, layers.project}, stem_block_bytes(stem, block, type), packed,
                   stream);
    });
}

bool stem_block(const StemParams& stem, const InvertedResidualParams& block, const InputView& x, const void* packed, void* y,
                const Gpu& gpu, Stream stream)
{
    return visit_block(stem, block, x.dtype, [&]<class Large>() {
        using Small = StemBlock<typename Large::T, Large::stride, small_rows>;
        if (stem.batch * tiles_of_image<Large>(block) < gpu.sm_count)
            run<Small>(stem, block, x, packed, y, gpu, stream);
        else
            run<Large>(stem, block, x, packed, y, gpu, stream);
    });
}

}  // namespace mnv2::cuda
