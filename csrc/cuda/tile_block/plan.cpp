#include "cuda/tile_block/plan.h"

#include <algorithm>
#include <array>

#include "cuda/common/arguments.h"
#include "cuda/common/options.h"
#include "cuda/reasons.h"

namespace mnv2::cuda {
namespace {

constexpr int wanted_warps = 8;                // in a thread block of the shared form
constexpr int64_t max_served_channels = 4096;  // before shared memory is too small; sizes stay within 32 bits

int depths_of(const InvertedResidualParams& params)
{
    return static_cast<int>(divide_up(params.in_channels, 16));
}

int pairs_of(const InvertedResidualParams& params)
{
    return static_cast<int>(divide_up(params.out_channels, 16));
}

int chunks_of(const InvertedResidualParams& params)
{
    return static_cast<int>(divide_up(params.expanded_channels, chunk_channels));
}

void set_memory(const TileShape& shape, TileArguments& a)
{
    a.expanded_bytes = round_up(a.images * a.rows * a.pitch * expanded_row * 2, 16);
    a.exchange_at = 2 * a.expanded_bytes;
    a.exchange_bytes = shape.direct ? 0 : a.strips * strip_tiles * chunk_depths * fragment_bytes;
    a.input_at = a.exchange_at + 2 * a.exchange_bytes;
    a.place_at = a.input_at + (shape.held ? 0 : a.units * shape.unit_tiles * a.depths * fragment_bytes);
    a.weights_at =
        a.place_at + (shape.held ? 0 : a.units * shape.unit_tiles * tile_pixels * static_cast<int>(sizeof(uint16_t)));
    a.shared_bytes = a.weights_at + shape.weight_buffers * chunk_bytes(a.depths, a.pairs);
}

// Splits the projection over warps and returns their number, 0 where their accumulators do not suffice.
int split_projection(const TileShape& shape, TileArguments& a)
{
    if (a.strips % shape.stack != 0) return 0;
    if (shape.direct) return a.pairs <= shape.column_pairs ? a.strips / shape.stack : 0;
    if (a.strips * strip_tiles % shape.row_tiles != 0) return 0;
    a.row_groups = a.strips * strip_tiles / shape.row_tiles;
    a.warp_pairs = shape.column_pairs;
    if (shape.out_channels == 0) {
        const int least = divide_up(a.pairs, shape.column_pairs);
        const int parts = std::max(least, std::min(a.pairs, wanted_warps / a.row_groups));
        a.warp_pairs = divide_up(a.pairs, parts);
    }
    return a.row_groups * divide_up(a.pairs, a.warp_pairs);
}

TilePlan plan_of(const TileShape& shape, const InvertedResidualParams& params, int strips, int images, int64_t shared_bytes)
{
    TilePlan plan{shape};
    TileArguments& a = plan.arguments;
    set_shape(params, a);
    set_tile(shape, params, strips, images, a);
    set_memory(shape, a);
    a.workers = split_projection(shape, a);
    const int warps = a.workers + (shape.held ? a.units : 0);
    const bool fits = a.workers > 0 && warps <= shape.most_warps && a.shared_bytes <= shared_bytes;
    plan.warps = fits ? warps : 0;
    plan.blocks = int64_t{a.tile_rows} * a.tile_columns * divide_up(params.batch, images);
    return plan;
}

// Whether three quarters of the multiprocessors have a block.
bool is_busy(const TilePlan& plan, const Gpu& gpu)
{
    return plan.warps > 0 && 4 * plan.blocks >= int64_t{3} * gpu.sm_count;
}

// Whether any plan could be: single strips of single images are the most tiles.
bool can_be_busy(const InvertedResidualParams& params, const Gpu& gpu)
{
    const int strip_height = is_narrow(params) ? 2 * patch_size : patch_size;
    const int64_t tiles = divide_up(params.out_height(), int64_t{strip_height}) *
                          divide_up(params.out_width(), int64_t{strip_patches * patch_size});
    return 4 * params.batch * tiles >= int64_t{3} * gpu.sm_count;
}

// Whether shared memory holds the smallest tiles, one strip of a wide or of a narrow image.
bool has_tile(const InvertedResidualParams& params)
{
    const auto fits = [&](int64_t size) {
        InvertedResidualParams image = params;
        image.batch = 1;
        image.height = image.width = size;
        return plan_of(shared_shape(params.stride), image, 1, 1, max_shared_bytes).warps > 0;
    };
    constexpr int64_t wide = 64, narrow = 8;
    return fits(wide) && fits(narrow);
}

// The form of a block of MobileNetV2 1.0; null for others.
const TileShape* stage_shape(const InvertedResidualParams& params, const std::array<TileShape, 6>& stages)
{
    const auto found = std::find_if(stages.begin(), stages.end(), [&](const TileShape& shape) {
        return params.in_channels == shape.in_channels && params.out_channels == shape.out_channels &&
               params.stride == shape.stride;
    });
    return found == stages.end() ? nullptr : &*found;
}

}  // namespace

const char* why_not_tiles(const InvertedResidualParams& params, ScalarType type)
{
    if (type == ScalarType::float32) return reasons::float32_weights;
    if (!params.has_expand) return reasons::no_expand;
    if (const char* const option = unserved_option(params)) return option;
    if (params.in_channels % 8 != 0 || params.out_channels % 8 != 0) return reasons::channels;
    if (params.in_channels > max_served_channels || params.out_channels > max_served_channels || !has_tile(params))
        return reasons::too_wide;
    return nullptr;
}

int64_t tile_block_bytes(const InvertedResidualParams& params, ScalarType type)
{
    return why_not_tiles(params, type) ? 0 : tile_packed_bytes(params);
}

int64_t tile_bias_bytes(const InvertedResidualParams& params)
{
    return pairs_of(params) * int64_t{16} * static_cast<int64_t>(sizeof(float));
}

int64_t tile_packed_bytes(const InvertedResidualParams& params)
{
    return tile_bias_bytes(params) + int64_t{chunks_of(params)} * chunk_bytes(depths_of(params), pairs_of(params));
}

void set_shape(const InvertedResidualParams& params, TileArguments& a)
{
    set_block(params, a);
    a.depths = depths_of(params);
    a.pairs = pairs_of(params);
    a.chunks = chunks_of(params);
    a.high = clamp_of(params.activation).high;
}

void set_tile(const TileShape& shape, const InvertedResidualParams& params, int strips, int images, TileArguments& a)
{
    const bool narrow = is_narrow(params);
    const int stride = params.stride, strip_width = strip_patches * patch_size;
    a.strips = strips;
    a.images = images;
    a.strip_height = narrow && images == 1 ? 2 * patch_size : patch_size;
    a.tile_rows = divide_up(a.out_height, strips * a.strip_height);
    a.tile_columns = divide_up(a.out_width, strip_width);
    a.patches_across = narrow ? strip_patches / 2 : strip_patches;
    a.patch_columns = std::min(a.patches_across, divide_up(a.out_width, patch_size));
    a.rows = (strips * a.strip_height - 1) * stride + static_cast<int>(kernel_size);
    a.columns = (a.patch_columns * patch_size - 1) * stride + static_cast<int>(kernel_size);
    const int even_columns = (a.columns + 1) / 2;
    a.odd_at = round_up(even_columns + 4, 8) - 4;  // so that neighbours' banks stay apart
    a.pitch = stride == 1 ? a.columns : a.odd_at + a.columns / 2;
    const int pixels = images * std::min(a.rows, a.height) * std::min(a.columns, a.width);
    a.units = divide_up(pixels, shape.unit_tiles * tile_pixels);
}

TilePlan best_tile_plan(const TileShape& shape, const InvertedResidualParams& params, const Gpu& gpu)
{
    TilePlan best{shape};
    const bool narrow = is_narrow(params);
    const auto most_tiles = static_cast<int>(divide_up(params.out_height(), patch_size));
    for (int tiles = 1; tiles <= most_tiles; ++tiles)
        for (const int images : {2, 1}) {
            if (images == 2 && (!narrow || params.batch <= gpu.sm_count)) continue;
            const int strip_height = narrow && images == 1 ? 2 * patch_size : patch_size;
            const auto strips = static_cast<int>(divide_up(params.out_height(), int64_t{tiles} * strip_height));
            const TilePlan plan = plan_of(shape, params, round_up(strips, shape.stack), images, gpu.shared_bytes);
            if (plan.warps == 0) continue;
            best = plan;
            if (is_busy(plan, gpu)) return best;
        }
    return best;
}

TilePlan plan_tiles(const InvertedResidualParams& params, ScalarType type, const Gpu& gpu)
{
    if (can_be_busy(params, gpu)) {  // plans take the host's time
        const std::array<TileShape, 6> stages = stage_shapes(type);
        if (const TileShape* const stage = stage_shape(params, stages)) {
            const TilePlan plan = best_tile_plan(*stage, params, gpu);
            if (is_busy(plan, gpu)) return plan;
        }
        const TilePlan plan = best_tile_plan(direct_shape(params.stride), params, gpu);
        if (is_busy(plan, gpu)) return plan;
    }
    const TilePlan plan = best_tile_plan(shared_shape(params.stride), params, gpu);
    return plan.warps > 0 ? plan : best_tile_plan(small_shape(params.stride), params, gpu);
}

}  // namespace mnv2::cuda
