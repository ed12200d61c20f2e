#include "cpu/plan.h"

#include <algorithm>

#include "core/sizes.h"

namespace mnv2::cpu {
namespace {

constexpr int64_t float_bytes = sizeof(float);

// Tensors in scratch start on cache lines.
constexpr int64_t line_floats = 64 / float_bytes;

int64_t padded_channels(int64_t channels, const PackLayout& layout)
{
    return vector_count(channels, layout) * layout.vector_width;
}

// Places tensors one behind the other in a thread's scratch.
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
    return std::min(params.height, (out_rows - 1) * params.stride + params.kernel);
}

int64_t depthwise_out_bytes(const InvertedResidualParams& params, const PackLayout& layout, int64_t rows)
{
    const int64_t elements = rows * params.out_width() * padded_channels(params.expanded_channels, layout);
    return stored_floats(elements, layout) * float_bytes;
}

// How much of the second-level cache a strip's depthwise results and a chunk's expanded rows may fill.
constexpr double usable_l2 = 0.92;

// Upper limit of a chunk's expanded rows, in any cache: from 401 KB, a depthwise output of stride 2 took 24 cycles (NOTES.md).
// Matrix tiles have no such limit: they lose more by short strips (250 us instead of 216 at 24-144-24).
constexpr int64_t most_expanded_bytes = 256 << 10;

// Expanded channels of a chunk: their rows stay in the first-level cache between expand and depthwise.
constexpr int chunk_channels = 32;

// Rows of strips that share rows: enough pixels for full tiles, few enough that expanded rows and depthwise results stay in
// cache.
int64_t sharing_strip_rows(const InvertedResidualParams& params, const PackLayout& layout, const CacheSizes& caches)
{
    const int64_t row = params.width * padded_channels(params.expanded_channels, layout) * float_bytes;
    int64_t rows = 1;
    while (rows < 4 && rows < params.out_height() &&
           rows_read(params, rows + 1) * row + depthwise_out_bytes(params, layout, rows + 1) < caches.l2 / 2)
        ++rows;
    return rows;
}

// Work is counted in a pointwise convolution's multiply-adds. A depthwise multiply-add takes as long as this many: nine
// take 5.7 to 6.9 cycles a vector, against 4.5.
constexpr double depthwise_weight = 1.4;

// What handing the threads a second pass costs: some 3 microseconds.
constexpr double pass_cost = 150e3;

double ratio(int64_t some, int64_t all)
{
    return static_cast<double>(some) / static_cast<double>(all);
}

struct BlockWork {
    double expand, depthwise, project;

    explicit BlockWork(const InvertedResidualParams& params)
    {
        const double expanded = static_cast<double>(params.expanded_channels);
        const double outputs = static_cast<double>(params.out_height() * params.out_width());
        expand = params.has_expand ? static_cast<double>(params.in_channels * params.height * params.width) * expanded : 0.0;
        depthwise = depthwise_weight * static_cast<double>(params.taps()) * expanded * outputs;
        project = expanded * static_cast<double>(params.out_channels) * outputs;
    }
};

// Work of the slowest thread where segments are of rows, and where they are of channels.
double work_by_rows(const InvertedResidualParams& params, int64_t segments)
{
    const BlockWork work(params);
    const int64_t rows = divide_up(params.out_height(), segments);
    return work.expand * ratio(rows_read(params, rows), params.height) +
           (work.depthwise + work.project) * ratio(rows, params.out_height());
}

double work_by_channels(const InvertedResidualParams& params, const PackLayout& layout, int64_t chunk_vectors, int64_t segments)
{
    const BlockWork work(params);
    const int64_t vectors = vector_count(params.expanded_channels, layout);
    const int64_t chunks = divide_up(vectors, chunk_vectors), panels = panel_count(params.out_channels, layout);
    return (work.expand + work.depthwise) * ratio(divide_up(chunks, segments), chunks) +
           work.project * ratio(divide_up(panels, segments), panels) + pass_cost;
}

// Pixels whose channels a head or a linear layer holds at a time. The strip decides the order of the head's sums, so it follows
// from the layer alone, not from this machine's caches.
int64_t strip_pixels(int64_t channels, int64_t pixels)
{
    constexpr int64_t strip_bytes = 128 << 10;
    return std::clamp<int64_t>(strip_bytes / (channels * float_bytes), 1, pixels);
}

// Threads take segments of an image where there are fewer images than threads.
int64_t segments_for(int64_t batch, int64_t most, int64_t threads)
{
    return std::clamp<int64_t>(divide_up(threads, std::max<int64_t>(batch, 1)), 1, most);
}

}  // namespace

int64_t plane_elements(int64_t pixels, const PackLayout& layout)
{
    // Planes a power of two apart would put a pixel's vectors into a few sets of the first-level cache. An odd multiple of
    // four lines of floats, two of halves, spreads sixteen of them over all sets.
    constexpr int64_t four_lines = 4 * line_floats;
    return (divide_up(pixels * layout.vector_width, four_lines) | 1) * four_lines;
}

int64_t stored_floats(int64_t elements, const PackLayout& layout)
{
    return divide_up(elements * scalar_bytes(layout.stored), float_bytes);
}

int64_t vector_count(int64_t channels, const PackLayout& layout)
{
    return divide_up(channels, layout.vector_width);
}

int64_t panel_channels(const PackLayout& layout)
{
    return static_cast<int64_t>(layout.panel_vectors) * layout.vector_width;
}

int64_t panel_count(int64_t channels, const PackLayout& layout)
{
    return divide_up(channels, panel_channels(layout));
}

BlockCuts choose_cuts(const InvertedResidualParams& params, const PackLayout& layout, const CacheSizes& caches, int64_t threads)
{
    BlockCuts cuts{};
    const int64_t rows = params.out_height();
    cuts.chunk_vectors = round_up(std::max(chunk_channels / layout.vector_width, 1), layout.panel_vectors);
    const auto fits = [&](int64_t strip) {
        const int64_t expanded =
            rows_read(params, strip) * params.width * cuts.chunk_vectors * layout.vector_width * float_bytes;
        const int64_t needed = depthwise_out_bytes(params, layout, strip) + expanded;
        const bool is_near = expanded <= most_expanded_bytes || layout.isa == Isa::amx_bf16;
        return params.has_expand && is_near && static_cast<double>(needed) <= usable_l2 * static_cast<double>(caches.l2);
    };
    cuts.segments = segments_for(params.batch, rows, threads);
    if (params.has_gate()) {
        cuts.shares_rows = !params.has_expand;
        cuts.strip_rows = cuts.shares_rows ? sharing_strip_rows(params, layout, caches) : rows;
        while (!cuts.shares_rows && cuts.strip_rows > 1 && !fits(cuts.strip_rows))
            cuts.strip_rows = divide_up(cuts.strip_rows, 2);
        return cuts;
    }
    const int64_t by_channels = segments_for(params.batch, panel_count(params.expanded_channels, layout), threads);
    cuts.splits_channels =
        by_channels > 1 && fits(rows) &&
        work_by_channels(params, layout, cuts.chunk_vectors, by_channels) < work_by_rows(params, cuts.segments);
    if (cuts.splits_channels) {
        cuts.segments = by_channels;
        cuts.strip_rows = rows;
        return cuts;
    }
    const int64_t segment_rows = divide_up(rows, cuts.segments);
    cuts.shares_rows = !fits(segment_rows);
    cuts.strip_rows = cuts.shares_rows ? sharing_strip_rows(params, layout, caches) : segment_rows;
    // Read in one order again and again, weights that a cache lacks a little room for replace each other there one and all.
    cuts.alternates = cuts.shares_rows && packed_bytes(params, layout) > caches.l2 / 2;
    return cuts;
}

BlockPlan plan_block(const InvertedResidualParams& params, const PackLayout& layout, const BlockCuts& cuts)
{
    BlockPlan plan{};
    plan.cuts = cuts;
    plan.expanded_rows = rows_read(params, cuts.strip_rows);
    plan.weights = block_offsets(params, layout);

    const int64_t plane = plan.expanded_rows * params.width * layout.vector_width;
    const int64_t in_vectors = vector_count(params.in_channels, layout);
    const int64_t vectors = vector_count(params.expanded_channels, layout);
    ScratchLayout scratch;
    plan.scratch.x_rows =
        scratch.take(params.has_expand || params.has_residual ? stored_floats(plane * in_vectors, layout) : 0);
    plan.scratch.expanded = scratch.take(plane * (cuts.shares_rows ? vectors : std::min(cuts.chunk_vectors, vectors)));
    const bool is_kept = params.has_gate() || cuts.splits_channels;
    if (is_kept) {
        plan.depthwise_out_plane = plane_elements(params.out_height() * params.out_width(), layout);
        plan.depthwise_out_floats = round_up(stored_floats(vectors * plan.depthwise_out_plane, layout), line_floats);
    }
    plan.scratch.depthwise_out = scratch.take(is_kept ? 0 : depthwise_out_bytes(params, layout, cuts.strip_rows) / float_bytes);
    plan.scratch.result = scratch.take(cuts.strip_rows * params.out_width() * padded_channels(params.out_channels, layout));
    plan.scratch.zeros = scratch.take(params.width * layout.vector_width);
    if (params.has_gate()) {
        const int64_t expanded = padded_channels(params.expanded_channels, layout);
        const int64_t squeezed = padded_channels(params.squeezed_channels, layout);
        plan.means_floats = round_up(expanded, line_floats);
        plan.scratch.gate_input = scratch.take(stored_floats(std::max(expanded, squeezed), layout));
        plan.scratch.squeezed = scratch.take(squeezed);
        plan.scratch.factors = scratch.take(expanded);
    }
    plan.scratch_bytes = scratch.bytes();
    return plan;
}

BlockCuts unfused_cuts(const InvertedResidualParams& params, const PackLayout& layout)
{
    BlockCuts cuts = cuts_by_chunks(params, layout, 1);
    cuts.shares_rows = !params.has_expand;
    return cuts;
}

int64_t unfused_strip_rows(const InvertedResidualParams& params, const PackLayout& layout, const CacheSizes& caches)
{
    const int64_t row = params.width * padded_channels(params.expanded_channels, layout) * float_bytes;
    return std::max<int64_t>(caches.l2 / 2 / row, 1);
}

BlockCuts cuts_by_chunks(const InvertedResidualParams& params, const PackLayout& layout, int64_t chunks)
{
    const int64_t panels = panel_count(params.expanded_channels, layout);
    BlockCuts cuts{};
    cuts.strip_rows = params.out_height();
    cuts.chunk_vectors = divide_up(panels, chunks) * layout.panel_vectors;
    cuts.segments = 1;
    return cuts;
}

BlockPlan plan_layer(const InvertedResidualParams& params, const PackLayout& layout, int64_t threads)
{
    return plan_block(params, layout, choose_cuts(params, layout, cache_sizes(), threads));
}

StemPlan plan_layer(const StemParams& params, const PackLayout& layout, int64_t threads)
{
    StemPlan plan{};
    plan.segments = segments_for(params.batch, params.out_height(), threads);
    const int64_t window = (params.out_width() - 1) * params.stride + params.kernel - params.padding.left;
    plan.table = table_offset(params, layout);
    plan.row_floats = layout.vector_width + round_up(window, layout.vector_width);
    ScratchLayout scratch;
    scratch.take(params.kernel * params.in_channels * plan.row_floats);
    plan.result = scratch.take(params.out_width() * padded_channels(params.out_channels, layout));
    plan.scratch_bytes = scratch.bytes();
    return plan;
}

HeadPoolPlan plan_layer(const HeadPoolParams& params, const PackLayout& layout, int64_t threads)
{
    HeadPoolPlan plan{};
    const int64_t in_channels = padded_channels(params.in_channels, layout);
    plan.strip_pixels = strip_pixels(in_channels, params.height * params.width);
    plan.segments = segments_for(params.batch, panel_count(params.out_channels, layout), threads);
    ScratchLayout scratch;
    plan.x_rows = scratch.take(stored_floats(plan.strip_pixels * in_channels, layout));
    plan.panel = scratch.take(plan.strip_pixels * panel_channels(layout));
    constexpr int64_t double_floats = sizeof(double) / sizeof(float);
    plan.sums = scratch.take(double_floats * padded_channels(params.out_channels, layout));
    plan.means = scratch.take(padded_channels(params.out_channels, layout));
    plan.scratch_bytes = scratch.bytes();
    return plan;
}

LinearPlan plan_layer(const LinearParams& params, const PackLayout& layout, int64_t threads)
{
    LinearPlan plan{};
    const int64_t in_features = padded_channels(params.in_features, layout);
    plan.strip_vectors = strip_pixels(in_features, std::max<int64_t>(params.batch, 1));
    plan.segments = std::clamp<int64_t>(threads, 1, panel_count(params.out_features, layout));
    ScratchLayout scratch;
    plan.x_rows = scratch.take(stored_floats(plan.strip_vectors * in_features, layout));
    plan.result = scratch.take(plan.strip_vectors * padded_channels(params.out_features, layout));
    plan.scratch_bytes = scratch.bytes();
    return plan;
}

}  // namespace mnv2::cpu
