#include "cuda/gated_block/plan.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "core/sizes.h"
#include "cuda/general_block/cost.h"
#include "cuda/general_block/cut.h"

namespace mnv2::cuda {
namespace {

// What a thread block may have, so that every GPU cuts images alike and two blocks fit the multiprocessors of large ones.
constexpr int64_t most_shared_bytes = 96 << 10;

constexpr int64_t shared_bytes_of(const GeneralBlockLayout& layout)
{
    return int64_t{layout.floats} * static_cast<int64_t>(sizeof(float));
}

// With room for each warp's sums.
GeneralBlockLayout gated_layout(const GeneralShape& shape, const InvertedResidualParams& params, const Cut& cut)
{
    GeneralBlockLayout layout = layout_of(shape, params, cut);
    layout.partials = layout.floats;
    layout.floats += shape.warps * chunk_channels;
    return layout;
}

// An estimate of the instructions that all tiles of an image cost a warp; tiles whose pixels are no multiples of the warps'
// leave some of them idle.
double cost_of(const GeneralShape& shape, const InvertedResidualParams& params, const Cut& cut)
{
    const Halo halo = halo_of(params, cut);
    const int64_t turns = divide_up(divide_up(halo.inputs, shape.warp_pixels()), shape.warps);
    const int64_t depth = params.has_expand ? round_up(params.in_channels, quad_channels) : 1;
    const double expand = static_cast<double>(turns * depth) * shape.pixels * thread_quads * quad_channels;
    const double depthwise =
        static_cast<double>(divide_up(cut.tile_width, shape.warps) * cut.tile_height) * depthwise_instructions(params);
    return static_cast<double>(block_count(params, cut)) * (expand + depthwise);
}

}  // namespace

GatedOffsets gated_offsets(const InvertedResidualParams& params)
{
    const int64_t expanded = params.expanded_channels, squeezed = params.squeezed_channels;
    GatedOffsets offsets{};
    int64_t floats = 0;
    const auto place = [&](int64_t count) {
        const int64_t at = floats;
        floats += round_up(count, quad_channels);
        return at;
    };
    constexpr auto float_bytes = static_cast<int64_t>(sizeof(float));
    offsets.depthwise = place(general_block_bytes(depthwise_pass(params), ScalarType::float32) / float_bytes);
    offsets.project = place(general_block_bytes(project_pass(params), ScalarType::float32) / float_bytes);
    offsets.squeeze = place(squeezed * expanded);
    offsets.squeeze_bias = place(squeezed);
    offsets.excite = place(squeezed * expanded);
    offsets.excite_bias = place(expanded);
    offsets.end = floats;
    return offsets;
}

InvertedResidualParams depthwise_pass(InvertedResidualParams params)
{
    params.out_channels = 0;
    return params;
}

InvertedResidualParams project_pass(InvertedResidualParams params)
{
    const int64_t height = params.out_height(), width = params.out_width();
    params.height = height;
    params.width = width;
    params.in_channels = params.expanded_channels;
    params.stride = 1;
    params.padding = {0, 0, 0, 0};
    params.kernel = 1;
    params.has_expand = false;
    params.activation = Activation::none;
    params.depthwise_activation.reset();
    return params;
}

int64_t gated_block_bytes(const InvertedResidualParams& params)
{
    return gated_offsets(params).end * static_cast<int64_t>(sizeof(float));
}

int64_t GatedPlan::tiles() const
{
    return divide_up(params.out_height(), cut.tile_height) * divide_up(params.out_width(), cut.tile_width);
}

GatedScratch GatedPlan::scratch(ScalarType type) const
{
    constexpr int64_t unit = 256;  // bytes: where any load may begin
    constexpr int64_t most = std::numeric_limits<int64_t>::max() - unit;
    constexpr auto float_bytes = static_cast<int64_t>(sizeof(float));
    int64_t end = 0;
    const auto place = [&](int64_t image_bytes) {
        const int64_t at = end;
        const bool fits = image_bytes <= (most - end) / params.batch;
        end = fits ? end + round_up(params.batch * image_bytes, unit) : most;
        return at;
    };
    GatedScratch scratch{};
    place(params.out_height() * params.out_width() * params.expanded_channels * scalar_bytes(type));
    scratch.sums = place(tiles() * params.expanded_channels * float_bytes);
    scratch.squeezed = place(params.squeezed_channels * float_bytes);
    scratch.factors = place(params.expanded_channels * float_bytes);
    scratch.end = end;
    return scratch;
}

// One image alone decides the cut, as the sums of its pixels are added up by tiles.
GatedPlan plan_gated(const InvertedResidualParams& params, const Gpu& gpu)
{
    constexpr int64_t small_image = 64;  // pixels
    InvertedResidualParams image = depthwise_pass(params);
    image.batch = 1;
    image.out_channels = image.expanded_channels;
    const int64_t pixels = params.out_height() * params.out_width();
    GatedPlan plan{params, gated_shapes[pixels > small_image]};
    double least = std::numeric_limits<double>::infinity();
    visit_tiles(params, plan.shape.tile_pixels(), [&](int64_t height, int64_t width) {
        const Cut cut{1, height, width, round_up(params.expanded_channels, chunk_channels), 1};
        const GeneralBlockLayout layout = gated_layout(plan.shape, image, cut);
        const double cost = cost_of(plan.shape, image, cut);
        if (shared_bytes_of(layout) > most_shared_bytes || cost >= least) return;
        least = cost;
        plan.cut = cut;
        plan.layout = layout;
    });
    plan.project = plan_general(project_pass(params), gpu);
    if (plan.layout.floats == 0 || shared_bytes_of(plan.layout) > gpu.shared_bytes || !plan.project.fits())
        throw std::runtime_error(no_general_tile);
    // Chunks that a thread block makes one after another share the tile's input, where there are enough blocks without.
    const int64_t chunks = chunk_count(params), tiles = params.batch * plan.tiles();
    const int64_t wanted_blocks = 2 * resident_blocks(gpu, plan.shape.blocks_per_sm, tiles * chunks);
    plan.chunks_per_block = std::clamp<int64_t>(tiles * chunks / wanted_blocks, 1, chunks);
    return plan;
}

}  // namespace mnv2::cuda
