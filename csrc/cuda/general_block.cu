#include "cuda/general_block.cuh"

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <stdexcept>
#include <tuple>

#include "core/sums.h"
#include "cuda/launch.h"
#include "cuda/pack_words.cuh"
#include "cuda/sizes.h"

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

constexpr int64_t most_columns = 160;

int64_t chunk_count(const InvertedResidualParams& params)
{
    return divide_up(params.expanded_channels, chunk_channels);
}

int64_t constants_floats(const InvertedResidualParams& params)
{
    return constant_rows * round_up(params.out_channels, quad_channels);
}

int64_t chunk_floats(const InvertedResidualParams& params)
{
    return cuda::chunk_floats(static_cast<int>(params.in_channels), static_cast<int>(params.out_channels), params.has_expand);
}

// The packed weights of general_block.cuh, word by word.
struct GeneralBlockWords {
    int64_t in_channels, expanded_channels, out_channels;
    int64_t constants_words, chunk_words, expand_words;
    ConvolutionWeights expand, depthwise, project;

    __device__ uint32_t operator()(int64_t i) const { return ptx::float_word(value(i)); }

private:
    __device__ float value(int64_t i) const
    {
        if (i < constants_words) {
            const int64_t row = constants_words / constant_rows;
            return constant(project, out_channels, i / row, i % row);
        }
        const int64_t first = (i - constants_words) / chunk_words * chunk_channels, at = (i - constants_words) % chunk_words;
        const int64_t row = at / chunk_channels, channel = first + at % chunk_channels;
        if (at < expand_words) {
            if (row < constant_rows) return constant(expand, expanded_channels, row, channel);
            return weight(expand, expanded_channels, in_channels, channel, row - constant_rows);
        }
        const int64_t depthwise_row = row - expand_words / chunk_channels;
        if (depthwise_row < kernel_taps) return weight(depthwise, expanded_channels, kernel_taps, channel, depthwise_row);
        if (depthwise_row < depthwise_rows) return constant(depthwise, expanded_channels, depthwise_row - kernel_taps, channel);
        const int64_t columns = constants_words / constant_rows, place = at - expand_words - depthwise_rows * chunk_channels;
        return weight(project, out_channels, expanded_channels, place % columns, first + place / columns);
    }

    __device__ static float weight(const ConvolutionWeights& layer, int64_t channels, int64_t depth, int64_t channel, int64_t k)
    {
        return channel < channels && k < depth ? layer.weight[channel * depth + k] : 0.0f;
    }

    __device__ static float constant(const ConvolutionWeights& layer, int64_t channels, int64_t row, int64_t channel)
    {
        if (channel >= channels) return 0.0f;
        return row == 0 ? layer.scale_of(channel) : layer.bias_of(channel);
    }
};

// How the work is cut.
struct Cut {
    int64_t images, tile_height, tile_width, slice_channels, planes;

    int64_t pixels() const { return images * tile_height * tile_width; }
};

struct Halo {
    int64_t height, width;
    int64_t pixels;  // of all images
    int64_t inputs;  // the most of them that lie inside the image
};

// The most rows of a tile, or columns, that lie inside the image: at either end, or anywhere between.
int64_t most_inside(int64_t tile, int64_t halo, int64_t size, int64_t out_size, int32_t stride, int32_t padding)
{
    const int64_t last = divide_up(out_size, tile) - 1;
    int64_t most = 0;
    for (const int64_t i : {int64_t{0}, std::min<int64_t>(1, last), last}) {
        const int64_t first = i * tile * stride - padding;
        most = std::max(most, std::min(first + halo, size) - std::max<int64_t>(first, 0));
    }
    return most;
}

Halo halo_of(const InvertedResidualParams& params, const Cut& cut)
{
    const int64_t height = (cut.tile_height - 1) * params.stride + kernel_size;
    const int64_t width = (cut.tile_width - 1) * params.stride + kernel_size;
    const int64_t rows =
        most_inside(cut.tile_height, height, params.height, params.out_height(), params.stride, params.padding.top);
    const int64_t columns =
        most_inside(cut.tile_width, width, params.width, params.out_width(), params.stride, params.padding.left);
    return {height, width, cut.images * height * width, cut.images * rows * columns};
}

int64_t slice_count(const InvertedResidualParams& params, const Cut& cut)
{
    return divide_up(params.out_channels, cut.slice_channels);
}

int64_t block_count(const InvertedResidualParams& params, const Cut& cut)
{
    return divide_up(params.batch, cut.images) * divide_up(params.out_height(), cut.tile_height) *
           divide_up(params.out_width(), cut.tile_width) * slice_count(params, cut);
}

// From 192 depths on a sum is taken in runs (general_block.cuh), which lets the input be streamed.
constexpr int64_t least_depth_in_slabs = long_depth;

int64_t depth_of_slabs(const InvertedResidualParams& params)
{
    return params.in_channels < least_depth_in_slabs ? round_up(params.in_channels, quad_channels) : slab_depth;
}

int64_t slab_count(const InvertedResidualParams& params)
{
    return params.has_expand ? divide_up(params.in_channels, depth_of_slabs(params)) : 1;
}

// A pixel's stride is odd in 16 bytes, so that neighbours lie in different banks.
int64_t input_stride(int64_t depth)
{
    return depth / quad_channels % 2 != 0 ? depth : depth + quad_channels;
}

template <class Block>
GeneralBlockLayout layout_of(const InvertedResidualParams& params, const Cut& cut)
{
    GeneralBlockLayout layout{};
    int64_t floats = 0;
    const auto place = [&](int64_t count) {
        const int64_t at = floats;
        floats += round_up(count, quad_channels);
        return static_cast<int>(at);
    };
    constexpr int64_t tile_floats = sizeof(GeneralTile) / sizeof(float), source_floats = sizeof(int64_t) / sizeof(float);
    const Halo halo = halo_of(params, cut);
    place(tile_floats);
    layout.sources = place(halo.inputs * source_floats);
    layout.places = place(halo.inputs);
    if (params.has_expand) {
        const int64_t depth = depth_of_slabs(params), buffers = slab_count(params) > 1 ? 2 : 1;
        layout.expand_constants = place(cut.planes * constant_rows * chunk_channels);
        layout.expand_slab = static_cast<int>(cut.planes * depth * chunk_channels);
        layout.expand_weights = place(buffers * layout.expand_slab);
        layout.input_stride = static_cast<int>(input_stride(depth));
        layout.input_slab = static_cast<int>(halo.inputs * layout.input_stride);
        layout.input = place(buffers * layout.input_slab);
    }
    layout.depthwise = place(cut.planes * depthwise_rows * chunk_channels);
    layout.project = place(cut.planes * chunk_channels * (Block::spread ? cut.slice_channels : Block::columns));
    layout.hidden_plane = static_cast<int>(halo.pixels * tile_stride);
    layout.hidden = place(cut.planes * layout.hidden_plane);
    layout.filtered_plane = static_cast<int>(cut.pixels() * tile_stride);
    layout.filtered = place(cut.planes * layout.filtered_plane);
    if (Block::spread) {
        layout.row = static_cast<int>(cut.slice_channels + quad_channels);  // odd in 16 bytes
        layout.partial_plane = static_cast<int>(cut.pixels() * layout.row);
        layout.partials = place(cut.planes * layout.partial_plane);
        layout.totals = place(layout.partial_plane);
    }
    layout.floats = static_cast<int>(floats);
    return layout;
}

// An estimate of the whole launch, in a multiprocessor's cycles: instructions of the products and the depthwise convolution,
// four a cycle, or the products' accesses to shared memory, two cycles each; a barrier's wait; and weights that no other
// block's work hides. A multiprocessor with few warps is taken to hide less of its latencies. No GPU has been asked about
// the constants.
template <class Block>
double cycles_of(const InvertedResidualParams& params, const Cut& cut, int64_t shared_bytes, const Gpu& gpu)
{
    constexpr double schedulers = 4.0, barrier_cycles = 150.0, warps_for_half = 3.0, bytes_per_cycle = 48.0;
    constexpr double loads = Block::pixels / 4.0 + thread_quads, depthwise_instructions = 20.0;
    constexpr double expand_instructions = 6.0 * Block::pixels * thread_quads * quad_channels;  // beside the product
    constexpr double project_instructions = expand_instructions / 2.0;
    constexpr double product_cycles =
        std::max((Block::pixels * thread_quads * quad_channels + loads) / schedulers, 2.0 * loads);  // of a warp, for one depth
    constexpr int64_t reserved_bytes = 1 << 10;                                                      // of a block, by CUDA

    const int64_t per_multiprocessor = divide_up(block_count(params, cut), gpu.sm_count);
    const int64_t fitting = (gpu.shared_bytes + reserved_bytes) / (shared_bytes + reserved_bytes);
    const int64_t resident = std::min({int64_t{Block::blocks_per_sm}, fitting, per_multiprocessor});
    const auto turns = [&](int64_t count) {  // of a warp's tasks; a lone block leaves schedulers idle
        return static_cast<double>(resident == 1 ? round_up(count, 4) : count);
    };
    const Halo halo = halo_of(params, cut);
    const int64_t depth = params.has_expand ? round_up(params.in_channels, quad_channels) : 0;
    const int64_t columns = std::min(round_up(params.out_channels, chunk_channels), cut.slice_channels);
    const int64_t parts = columns / chunk_channels;
    const int64_t planes = std::min(cut.planes, chunk_count(params));
    const double expand = turns(divide_up(halo.inputs, Block::warp_pixels) * planes) *
                          (static_cast<double>(depth) * product_cycles + expand_instructions / schedulers);
    const double depthwise = turns(cut.images * cut.tile_width * planes) * static_cast<double>(cut.tile_height) *
                             depthwise_instructions / schedulers;
    const int64_t project_tasks = divide_up(cut.pixels(), Block::warp_pixels) * planes;
    const double project = (Block::spread ? turns(project_tasks * parts) : turns(project_tasks) * static_cast<double>(parts)) *
                           (chunk_channels * product_cycles + project_instructions / schedulers);
    const double barriers = (3.0 + Block::spread) * barrier_cycles * static_cast<double>(slab_count(params));
    const double weights = static_cast<double>(planes * chunk_channels * (depth + depthwise_rows + columns)) * sizeof(float);
    const double step = expand + depthwise + project + barriers + (resident == 1 ? weights / bytes_per_cycle : 0.0);
    const auto warps = static_cast<double>(resident * Block::warps);
    return static_cast<double>(per_multiprocessor * divide_up(chunk_count(params), planes)) * step * (warps + warps_for_half) /
           warps;
}

// The sizes up to most that cut a dimension into equal pieces, the largest first.
template <class Visit>
void visit_pieces(int64_t size, int64_t most, const Visit& visit)
{
    for (int64_t piece = std::min(size, most); piece > 0; --piece) {
        piece = divide_up(size, divide_up(size, piece));
        visit(piece);
    }
}

struct Plan {
    Cut cut;
    GeneralBlockLayout layout;
    double cycles = std::numeric_limits<double>::infinity();
};

// Whether it fits.
template <class Block>
bool consider(const InvertedResidualParams& params, const Gpu& gpu, const Cut& cut, Plan& best)
{
    const GeneralBlockLayout layout = layout_of<Block>(params, cut);
    const int64_t bytes = int64_t{layout.floats} * static_cast<int64_t>(sizeof(float));
    if (bytes > gpu.shared_bytes) return false;
    const double cycles = cycles_of<Block>(params, cut, bytes, gpu);
    if (cycles < best.cycles) best = {cut, layout, cycles};
    return true;
}

// Calls visit(height, width) for the tiles of an image.
template <class Visit>
void visit_tiles(const InvertedResidualParams& params, int64_t most_pixels, const Visit& visit)
{
    visit_pieces(params.out_width(), most_pixels, [&](int64_t width) {
        visit_pieces(params.out_height(), most_pixels / width, [&](int64_t height) { visit(height, width); });
    });
}

int64_t widest_slice(const InvertedResidualParams& params)
{
    const int64_t slices = divide_up(params.out_channels, most_columns);
    return round_up(divide_up(params.out_channels, slices), chunk_channels);
}

// The cut with the least estimate. Small images are taken several at a time, and small tiles only where these are few.
template <class Block>
Plan plan_whole(const InvertedResidualParams& params, const Gpu& gpu)
{
    constexpr int64_t most_small_tiles = 4, small_part = 4;  // of a multiprocessor, and of the pixels that a tile can have
    Plan best{};
    const int64_t height = params.out_height(), width = params.out_width(), slice = widest_slice(params);
    const int64_t least_pixels = params.batch * height * width / (most_small_tiles * gpu.sm_count);
    visit_tiles(params, Block::tile_pixels, [&](int64_t tile_height, int64_t tile_width) {
        if (tile_height * tile_width < std::min(least_pixels, Block::tile_pixels / small_part)) return;
        consider<Block>(params, gpu, {1, tile_height, tile_width, slice, 1}, best);
    });
    if (height * width <= Block::tile_pixels / 2)
        for (int64_t images = std::min(params.batch, Block::tile_pixels / (height * width)); images > 1; --images)
            consider<Block>(params, gpu, {images, height, width, slice, 1}, best);
    return best;
}

// Only where tiles are few: elsewhere shared memory has no time for the sums.
template <class Block>
Plan plan_spread(const InvertedResidualParams& params, const Gpu& gpu)
{
    constexpr int64_t most_pixels = 2 * Block::warp_pixels, most_planes = 8, most_tiles = 2;
    Plan best{};
    const int64_t pixels = params.batch * params.out_height() * params.out_width();
    if (pixels > most_tiles * most_pixels * gpu.sm_count) return best;
    const int64_t least_pixels = pixels / (most_tiles * gpu.sm_count);
    visit_tiles(params, most_pixels, [&](int64_t tile_height, int64_t tile_width) {
        if (tile_height * tile_width < least_pixels) return;
        for (int64_t slice = widest_slice(params); slice >= chunk_channels; slice = slice / 2 / chunk_channels * chunk_channels)
            for (int64_t planes = most_planes; planes > 0; planes /= 2)
                if (consider<Block>(params, gpu, {1, tile_height, tile_width, slice, planes}, best)) break;
    });
    return best;
}

template <class Block>
Plan plan_of(const InvertedResidualParams& params, const Gpu& gpu)
{
    if constexpr (Block::spread)
        return plan_spread<Block>(params, gpu);
    else
        return plan_whole<Block>(params, gpu);
}

template <class Block>
bool has_columns(const InvertedResidualParams& params)
{
    // The least that hold a slice: blocks are listed in their order.
    const int64_t channels = widest_slice(params);
    constexpr int64_t less = Block::columns <= 96 ? Block::columns - 32 : 96;
    return Block::spread || (channels <= Block::columns && channels > less);
}

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
