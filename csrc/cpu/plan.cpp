#include "cpu/plan.h"

#include <unistd.h>

#include <algorithm>

namespace mnv2::cpu {
namespace {

constexpr int64_t float_bytes = sizeof(float);

// Parts of scratch start on cache lines.
constexpr int64_t line_floats = 64 / float_bytes;

int64_t round_up(int64_t value, int64_t multiple)
{
    return (value + multiple - 1) / multiple * multiple;
}

int64_t padded_channels(int64_t channels, const PackLayout& layout)
{
    return round_up(channels, layout.vector_width);
}

// Hands out consecutive parts of a thread's scratch.
class ScratchLayout {
public:
    int64_t take(int64_t floats)
    {
        const int64_t offset = used_;
        used_ += round_up(floats, line_floats);
        return offset;
    }
    int64_t bytes() const { return used_ * float_bytes; }

private:
    int64_t used_ = 0;
};

int64_t rows_read(const InvertedResidualParams& params, int64_t out_rows)
{
    return std::min(params.height, (out_rows - 1) * params.stride + kernel_size);
}

int64_t middle_bytes(const InvertedResidualParams& params, const PackLayout& layout, int64_t rows)
{
    return rows * params.out_width() * padded_channels(params.expanded_channels, layout) * float_bytes;
}

// The depthwise result of a whole image may fill this share of the second-level cache beside weights and input.
constexpr double middle_share = 0.6;

// Expanded channels of a chunk: their rows stay in the first-level cache between expand and depthwise.
constexpr int chunk_channels = 32;

// Rows of a strip that shares a ring: enough pixels for full tiles, few enough that ring and middle stay in cache.
int64_t ring_strip_rows(const InvertedResidualParams& params, const PackLayout& layout, const CacheSizes& caches)
{
    const int64_t row = params.width * padded_channels(params.expanded_channels, layout) * float_bytes;
    int64_t rows = 1;
    while (rows < 4 && rows < params.out_height() &&
           rows_read(params, rows + 1) * row + middle_bytes(params, layout, rows + 1) < caches.l2 / 2)
        ++rows;
    return rows;
}

int64_t value_or(long reported, int64_t fallback)
{
    return reported > 0 ? reported : fallback;
}

// Threads take parts of an image where there are fewer images than threads.
int64_t segments_for(int64_t batch, int64_t parts, int64_t threads)
{
    return std::clamp<int64_t>((threads + batch - 1) / std::max<int64_t>(batch, 1), 1, parts);
}

}  // namespace

CacheSizes cache_sizes()
{
    return {value_or(sysconf(_SC_LEVEL1_DCACHE_SIZE), 32 << 10), value_or(sysconf(_SC_LEVEL2_CACHE_SIZE), 512 << 10)};
}

BlockCuts choose_cuts(const InvertedResidualParams& params, const PackLayout& layout, const CacheSizes& caches, int64_t threads)
{
    BlockCuts cuts{};
    cuts.segments = segments_for(params.batch, params.out_height(), threads);
    const int64_t segment_rows = (params.out_height() + cuts.segments - 1) / cuts.segments;
    const bool fits = middle_bytes(params, layout, segment_rows) <= middle_share * static_cast<double>(caches.l2);
    cuts.shares_rows = !params.has_expand || !fits;
    cuts.strip_rows = cuts.shares_rows ? ring_strip_rows(params, layout, caches) : segment_rows;
    cuts.chunk_blocks = round_up(std::max(chunk_channels / layout.vector_width, 1), layout.panel_vectors);
    return cuts;
}

BlockPlan plan_block(const InvertedResidualParams& params, const PackLayout& layout, const BlockCuts& cuts)
{
    BlockPlan plan{};
    plan.cuts = cuts;
    plan.ring_rows = rows_read(params, cuts.strip_rows);
    plan.weights = block_offsets(params, layout);

    const int64_t plane = plan.ring_rows * params.width * layout.vector_width;
    const int64_t in_blocks = padded_channels(params.in_channels, layout) / layout.vector_width;
    const int64_t blocks = padded_channels(params.expanded_channels, layout) / layout.vector_width;
    ScratchLayout scratch;
    plan.scratch.x_rows = scratch.take(params.has_expand || params.has_residual ? plane * in_blocks : 0);
    plan.scratch.ring = scratch.take(plane * (cuts.shares_rows ? blocks : std::min(cuts.chunk_blocks, blocks)));
    plan.scratch.middle = scratch.take(middle_bytes(params, layout, cuts.strip_rows) / float_bytes);
    plan.scratch.result = scratch.take(cuts.strip_rows * params.out_width() * params.out_channels);
    plan.scratch.zeros = scratch.take(params.width * layout.vector_width);
    plan.scratch_bytes = scratch.bytes();
    return plan;
}

StemPlan plan_stem(const StemParams& params, int64_t threads)
{
    StemPlan plan{};
    plan.segments = segments_for(params.batch, params.out_height(), threads);
    plan.row_floats = (params.out_width() - 1) * params.stride + kernel_size;
    ScratchLayout scratch;
    scratch.take(kernel_size * params.in_channels * plan.row_floats);
    plan.result = scratch.take(params.out_width() * params.out_channels);
    plan.scratch_bytes = scratch.bytes();
    return plan;
}

HeadPoolPlan plan_head_pool(const HeadPoolParams& params, const PackLayout& layout, int64_t threads)
{
    // The strip decides the order of the sums, so it follows from the layer alone, not from this machine's caches.
    constexpr int64_t strip_bytes = 128 << 10;
    HeadPoolPlan plan{};
    const int64_t in_channels = padded_channels(params.in_channels, layout);
    const int64_t out_channels = padded_channels(params.out_channels, layout);
    const int64_t panel_width = layout.panel_vectors * layout.vector_width;
    plan.strip_pixels = std::clamp<int64_t>(strip_bytes / (in_channels * float_bytes), 1, params.height * params.width);
    plan.segments = segments_for(params.batch, (out_channels + panel_width - 1) / panel_width, threads);
    ScratchLayout scratch;
    plan.x_rows = scratch.take(plan.strip_pixels * in_channels);
    plan.panel = scratch.take(plan.strip_pixels * panel_width);
    plan.sums = scratch.take(out_channels);
    plan.scratch_bytes = scratch.bytes();
    return plan;
}

}  // namespace mnv2::cpu
