#include "cuda/general_block/plan.h"

#include <algorithm>

#include "cuda/general_block/cost.h"
#include "cuda/general_block/cut.h"

namespace mnv2::cuda {
namespace {

// Keeps the cut in `best` if it has the least estimate so far. Returns whether it fits shared memory.
bool consider(const InvertedResidualParams& params, const Gpu& gpu, const Cut& cut, GeneralPlan& best)
{
    const GeneralBlockLayout layout = layout_of(best.shape, params, cut);
    const int64_t bytes = int64_t{layout.floats} * static_cast<int64_t>(sizeof(float));
    if (bytes > gpu.shared_bytes) return false;
    const double cycles = cycles_of(best.shape, params, cut, bytes, gpu);
    if (cycles < best.cycles) best = {best.shape, params, cut, layout, cycles};
    return true;
}

constexpr int64_t most_columns = 160;

int64_t widest_slice(const InvertedResidualParams& params)
{
    const int64_t slices = divide_up(params.out_channels, most_columns);
    return round_up(divide_up(params.out_channels, slices), chunk_channels);
}

// The cut with the least estimate. Small images are taken several at a time, and small tiles only where these are few.
GeneralPlan plan_whole(const GeneralShape& shape, const InvertedResidualParams& params, const Gpu& gpu)
{
    constexpr int64_t most_small_tiles = 4, small_part = 4;  // tiles a multiprocessor; part of a tile's most pixels
    GeneralPlan best{shape};
    const int64_t tile_pixels = shape.tile_pixels(), height = params.out_height(), width = params.out_width(),
                  slice = widest_slice(params);
    const int64_t least_pixels = params.batch * height * width / (most_small_tiles * gpu.sm_count);
    visit_tiles(params, tile_pixels, [&](int64_t tile_height, int64_t tile_width) {
        if (tile_height * tile_width < std::min(least_pixels, tile_pixels / small_part)) return;
        consider(params, gpu, {1, tile_height, tile_width, slice, 1}, best);
    });
    if (height * width <= tile_pixels / 2)
        for (int64_t images = std::min(params.batch, tile_pixels / (height * width)); images > 1; --images)
            consider(params, gpu, {images, height, width, slice, 1}, best);
    return best;
}

// Plans only where tiles are few: elsewhere shared memory has no time for the sums.
GeneralPlan plan_spread(const GeneralShape& shape, const InvertedResidualParams& params, const Gpu& gpu)
{
    constexpr int64_t most_planes = 8, most_tiles = 2;
    const int64_t most_pixels = 2 * shape.warp_pixels();
    GeneralPlan best{shape};
    const int64_t pixels = params.batch * params.out_height() * params.out_width();
    if (pixels > most_tiles * most_pixels * gpu.sm_count) return best;
    const int64_t least_pixels = pixels / (most_tiles * gpu.sm_count);
    visit_tiles(params, most_pixels, [&](int64_t tile_height, int64_t tile_width) {
        if (tile_height * tile_width < least_pixels) return;
        for (int64_t slice = widest_slice(params); slice >= chunk_channels; slice = slice / 2 / chunk_channels * chunk_channels)
            for (int64_t planes = most_planes; planes > 0; planes /= 2)
                if (consider(params, gpu, {1, tile_height, tile_width, slice, planes}, best)) break;
    });
    return best;
}

}  // namespace

bool has_columns(const GeneralShape& shape, const InvertedResidualParams& params)
{
    // The fewest columns that hold a slice: forms are listed by their columns.
    const int64_t channels = widest_slice(params);
    const int64_t less = shape.columns <= 96 ? shape.columns - 32 : 96;
    return shape.spread || (channels <= shape.columns && channels > less);
}

GeneralPlan general_plan_of(const GeneralShape& shape, const InvertedResidualParams& params, const Gpu& gpu)
{
    return shape.spread ? plan_spread(shape, params, gpu) : plan_whole(shape, params, gpu);
}

GeneralPlan plan_general(const InvertedResidualParams& params, const Gpu& gpu)
{
    GeneralPlan best;
    for (const GeneralShape& shape : general_shapes) {
        if (!has_columns(shape, params)) continue;
        const GeneralPlan plan = general_plan_of(shape, params, gpu);
        if (plan.cycles < best.cycles) best = plan;
    }
    return best;
}

int64_t general_block_bytes(const InvertedResidualParams& params, ScalarType)
{
    return (constants_floats(params) + chunk_count(params) * chunk_floats(params)) * static_cast<int64_t>(sizeof(float));
}

}  // namespace mnv2::cuda
