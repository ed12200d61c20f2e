#include "cuda/general_block/kernel.cuh"

#include <algorithm>
#include <array>
#include <map>
#include <stdexcept>
#include <tuple>

#include "cuda/general_block/pack.cuh"
#include "cuda/general_block/plan.h"
#include "cuda/launch.h"

namespace mnv2::cuda {
namespace {

// Warps, pixels of a thread, output channels and thread blocks of a multiprocessor. A block of four warps makes 128 pixels,
// half an image of 14x14 or two of 7x7; with more channels the totals fill the registers, which leaves room for fewer
// blocks.
using GeneralBlocks = std::tuple<GeneralBlock<8, 4, 32, 2>,          // a tile of 14x14, whose halo is 256 pixels
                                 GeneralBlock<4, 4, 32, 4>,          // stride 2, few pixels, and small images
                                 GeneralBlock<4, 4, 64, 3>,          //
                                 GeneralBlock<4, 4, 96, 2>,          //
                                 GeneralBlock<4, 4, 160, 2>,         // more channels come in slices
                                 GeneralBlock<8, 2, 160, 1, true>>;  // fewer tiles than multiprocessors

template <class Block>
void launch(const InvertedResidualParams& params, ScalarType type, const Plan& plan, const void* x, const void* packed, void* y,
            const Gpu& gpu, Stream stream)
{
    const auto number = [](int64_t value) { return static_cast<int>(value); };
    const Cut& cut = plan.cut;
    const Halo halo = halo_of(params, cut);
    GeneralBlockArguments arguments{};
    arguments.type = type;
    arguments.input = x;
    arguments.output = y;
    arguments.packed = static_cast<const float*>(packed);
    arguments.batch = params.batch;
    arguments.blocks = block_count(params, cut);
    arguments.in_channels = number(params.in_channels);
    arguments.expanded_channels = number(params.expanded_channels);
    arguments.out_channels = number(params.out_channels);
    arguments.height = number(params.height);
    arguments.width = number(params.width);
    arguments.out_height = number(params.out_height());
    arguments.out_width = number(params.out_width());
    arguments.padding_top = params.padding.top;
    arguments.padding_left = params.padding.left;
    arguments.stride = params.stride;
    arguments.images = number(cut.images);
    arguments.tile_height = number(cut.tile_height);
    arguments.tile_width = number(cut.tile_width);
    arguments.halo_height = number(halo.height);
    arguments.halo_width = number(halo.width);
    arguments.tile_rows = number(divide_up(params.out_height(), cut.tile_height));
    arguments.tile_columns = number(divide_up(params.out_width(), cut.tile_width));
    arguments.slices = number(slice_count(params, cut));
    arguments.slice_channels = number(cut.slice_channels);
    arguments.slabs = number(slab_count(params));
    arguments.depth = number(depth_of_slabs(params));
    arguments.planes = number(cut.planes);
    arguments.layout = plan.layout;
    arguments.clamp = clamp_of(params.activation);
    arguments.project_clamp = clamp_of(params.project_activation);
    arguments.has_expand = params.has_expand;
    arguments.residual = params.has_residual;

    const int64_t most_blocks = int64_t{gpu.sm_count} * Block::blocks_per_sm;
    launch_kernel(general_block_kernel<Block>, dim3(static_cast<unsigned>(std::min(most_blocks, arguments.blocks))),
                  dim3(Block::threads), static_cast<size_t>(plan.layout.floats) * sizeof(float), stream, arguments);
}

// Calls visit(Block) for the kernels with the right number of columns.
template <class Visit>
void visit_blocks(const InvertedResidualParams& params, const Visit& visit)
{
    std::apply([&](auto... blocks) { ((has_columns<decltype(blocks)>(params) ? visit(blocks) : void()), ...); },
               GeneralBlocks{});
}

struct Choice {
    Plan plan;
    decltype(&launch<std::tuple_element_t<0, GeneralBlocks>>) launch;
};

Choice choose(const InvertedResidualParams& params, const Gpu& gpu)
{
    Choice best{};
    visit_blocks(params, [&](auto block) {
        using Block = decltype(block);
        const Plan plan = plan_of<Block>(params, gpu);
        if (plan.cycles < best.plan.cycles) best = {plan, &launch<Block>};
    });
    if (!best.launch) throw std::runtime_error("the GPU has too little shared memory for any tile of this block");
    return best;
}

// Looked up, since to choose anew takes some 20 us, more than the launch.
const Choice& choice_of(const InvertedResidualParams& params, const Gpu& gpu)
{
    constexpr size_t most_choices = 256;
    using Key = std::array<int64_t, 14>;
    thread_local std::map<Key, Choice> choices;
    const Padding& padding = params.padding;
    const Key key = {params.batch,        params.height,     params.width, params.in_channels, params.expanded_channels,
                     params.out_channels, params.stride,     padding.top,  padding.left,       padding.bottom,
                     padding.right,       params.has_expand, gpu.sm_count, gpu.shared_bytes};
    const auto found = choices.find(key);
    if (found != choices.end()) return found->second;
    if (choices.size() >= most_choices) choices.clear();
    return choices.emplace(key, choose(params, gpu)).first->second;
}

}  // namespace

int64_t general_block_bytes(const InvertedResidualParams& params, ScalarType)
{
    return (constants_floats(params) + chunk_count(params) * chunk_floats(params)) * static_cast<int64_t>(sizeof(float));
}

void pack_general_block(const InvertedResidualParams& params, ScalarType packed_type, const ConvolutionWeights& expand,
                        const ConvolutionWeights& depthwise, const ConvolutionWeights& project, void* packed, Stream stream)
{
    const GeneralBlockWords words{params.in_channels,
                                  params.expanded_channels,
                                  params.out_channels,
                                  constants_floats(params),
                                  chunk_floats(params),
                                  expand_floats(static_cast<int>(params.in_channels), params.has_expand),
                                  expand,
                                  depthwise,
                                  project};
    pack_words(words, general_block_bytes(params, packed_type) / static_cast<int64_t>(sizeof(uint32_t)), packed, stream);
}

void general_block(const InvertedResidualParams& params, ScalarType x_type, ScalarType, const void* x, const void* packed,
                   void* y, const Gpu& gpu, Stream stream)
{
    if (params.batch == 0 || params.out_height() == 0 || params.out_width() == 0) return;
    const Choice& choice = choice_of(params, gpu);
    choice.launch(params, x_type, choice.plan, x, packed, y, gpu, stream);
}

}  // namespace mnv2::cuda
