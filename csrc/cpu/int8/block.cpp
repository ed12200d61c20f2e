#include "cpu/int8/block.h"

#include <algorithm>
#include <cstring>

#include "core/sizes.h"
#include "cpu/int8/packing.h"

namespace mnv2::cpu::int8 {
namespace {

constexpr int64_t line_bytes = 64;

// Rows of a ring that an output row's window reads, in a power of two.
constexpr int64_t ring_rows = 4;

// Up to this size 64 channels of an expanded image stay in cache between expand and depthwise: each panel of weights is then
// read once. 28 x 28 takes 58 KB and gains 2.5 % over a ring of rows, 56 x 56 takes 215 KB.
constexpr int64_t most_whole_bytes = 64 << 10;

// Places tensors one behind the other in a thread's scratch; without memory it only counts.
class Scratch {
public:
    explicit Scratch(uint8_t* memory = nullptr) : memory_(memory) {}
    uint8_t* take(int64_t bytes)
    {
        const int64_t offset = used_;
        used_ += round_up(bytes, line_bytes);
        return memory_ ? memory_ + offset : nullptr;
    }
    int64_t used() const { return used_; }

private:
    uint8_t* memory_;
    int64_t used_ = 0;
};

// An expanded image of one block, or a ring of its rows, has a column of zeros on either side.
int64_t padded_row_bytes(const InvertedResidualParams& params)
{
    return (params.width + 2) * block_channels;
}

int64_t padded_bytes(int64_t channels, int64_t pixels)
{
    return pixels * padded_channels(channels);
}

// A layer's input, and what a layer holds in its scratch.
Pixels stored_pixels(const BlockedImage& x, int64_t channels)
{
    return {x.data, x.plane, channels, stored_width(channels, block_count(channels) - 1)};
}

Pixels padded_pixels(const uint8_t* data, int64_t pixels, int64_t channels)
{
    return {data, plane_bytes(pixels), channels, block_width(channels, block_count(channels) - 1)};
}

// What a task of a block computes in. depthwise_out: a row's where it goes by rows.
struct BlockMemory {
    uint8_t *expanded, *depthwise_out, *zeros;

    BlockMemory(const InvertedResidualParams& params, bool by_rows, Scratch& scratch)
    {
        const int64_t row = padded_row_bytes(params);
        expanded = scratch.take(by_rows ? ring_rows * row * block_count(params.expanded_channels) : params.height * row);
        depthwise_out = scratch.take(by_rows ? padded_bytes(params.expanded_channels, params.out_width()) : 0);
        zeros = scratch.take(row);
    }
};

// The project of a block on output rows [row, row + rows), of which `held` are in depthwise_out from row first_held on.
struct Project {
    const Kernels& kernels;
    const InvertedResidualParams& params;
    const uint8_t* packed;
    const BlockedImage& y;
    const BlockedImage* shortcut;

    void operator()(int64_t row, int64_t rows, const uint8_t* depthwise_out, int64_t first_held, int64_t held) const
    {
        const int64_t columns = params.out_width(), steps = steps_of(params.expanded_channels, kernels.format);
        const Pixels x = padded_pixels(depthwise_out, held * columns, params.expanded_channels);
        const uint8_t* const panels = packed + block_offsets(params, kernels.format).project;
        for (int64_t block = 0; block < block_count(params.out_channels); ++block) {
            const int64_t y_width = stored_width(params.out_channels, block), at = block * y.plane + row * columns * y_width;
            kernels.pointwise({x, (row - first_held) * columns, 1, rows * columns,
                               panels + block * panel_bytes(steps, block_channels, kernels.format),
                               block_width(params.out_channels, block), y.data + at, y_width, 0,
                               shortcut ? shortcut->data + at : nullptr});
        }
    }
};

// Expand and depthwise of one task. A Source makes expanded rows: source(block, row, rows, y, pitch) writes rows of one block
// of channels.
class BlockRun {
public:
    BlockRun(const Kernels& kernels, const InvertedResidualParams& params, const uint8_t* packed, const BlockMemory& memory)
        : kernels_(kernels),
          params_(params),
          depthwise_(packed + block_offsets(params, kernels.format).depthwise),
          memory_(memory)
    {
        std::memset(memory.zeros, 0, static_cast<size_t>(padded_row_bytes(params)));
    }

    // All channels of an output row at a time, from a ring of expanded rows.
    template <class Source>
    void run_by_rows(Source& source, const Range& rows, const Project& project) const
    {
        const int64_t blocks = block_count(params_.expanded_channels), ring = ring_rows * padded_row_bytes(params_);
        const auto row_of = [&](int64_t block, int64_t row) {
            return memory_.expanded + block * ring + row % ring_rows * (params_.width + 2) * expanded_width(block);
        };
        for (int64_t block = 0; block < blocks; ++block) clear_sides(row_of(block, 0), ring_rows, block);
        int64_t made = std::max<int64_t>(first_row(rows.begin), 0);
        for (int64_t out = rows.begin; out < rows.end; ++out) {
            for (; made < std::min(first_row(out) + kernel_size, params_.height); ++made)
                for (int64_t block = 0; block < blocks; ++block)
                    source(block, made, 1, row_of(block, made) + expanded_width(block), 0);
            for (int64_t block = 0; block < blocks; ++block)
                depthwise(
                    block, first_row(out), [&](int64_t row) { return row_of(block, row); },
                    memory_.depthwise_out + block * plane_bytes(params_.out_width()));
            project(out, 1, memory_.depthwise_out, out, 1);
        }
    }

    // 64 channels at a time over the whole image.
    template <class Source>
    void run_by_channels(Source& source, const Range& blocks, uint8_t* depthwise_out) const
    {
        const int64_t plane = plane_bytes(params_.out_height() * params_.out_width());
        for (int64_t block = blocks.begin; block < blocks.end; ++block) {
            const int64_t width = expanded_width(block), pitch = (params_.width + 2) * width;
            clear_sides(memory_.expanded, params_.height, block);
            source(block, 0, params_.height, memory_.expanded + width, pitch);
            for (int64_t out = 0; out < params_.out_height(); ++out)
                depthwise(
                    block, first_row(out), [&](int64_t row) { return memory_.expanded + row * pitch; },
                    depthwise_out + block * plane + out * params_.out_width() * width);
        }
    }

private:
    int64_t expanded_width(int64_t block) const { return block_width(params_.expanded_channels, block); }

    // The first row of an output row's window; negative above the image.
    int64_t first_row(int64_t out) const { return out * params_.stride - params_.padding.top; }

    void clear_sides(uint8_t* rows, int64_t count, int64_t block) const
    {
        const int64_t width = expanded_width(block), pitch = (params_.width + 2) * width;
        for (int64_t row = 0; row < count; ++row) {
            std::memset(rows + row * pitch, 0, static_cast<size_t>(width));
            std::memset(rows + (row + 1) * pitch - width, 0, static_cast<size_t>(width));
        }
    }

    template <class RowOf>
    void depthwise(int64_t block, int64_t first, const RowOf& row_of, uint8_t* y) const
    {
        const int64_t width = expanded_width(block);
        DepthwiseRun run{{},
                         depthwise_ + block * depthwise_bytes(block_channels, kernels_.format),
                         width,
                         params_.out_width(),
                         params_.stride,
                         y};
        for (int64_t ky = 0; ky < kernel_size; ++ky) {
            const int64_t row = first + ky;
            const bool is_inside = row >= 0 && row < params_.height;
            run.rows[ky] = (is_inside ? row_of(row) : memory_.zeros) + (1 - params_.padding.left) * width;
        }
        kernels_.depthwise(run);
    }

    const Kernels& kernels_;
    const InvertedResidualParams& params_;
    const uint8_t* depthwise_;
    const BlockMemory& memory_;
};

// Expanded rows by a pointwise layer.
struct Expand {
    const Kernels& kernels;
    const InvertedResidualParams& params;
    const uint8_t* packed;
    const BlockedImage& x;

    void operator()(int64_t block, int64_t row, int64_t rows, uint8_t* y, int64_t pitch) const
    {
        const int64_t panel = panel_bytes(steps_of(params.in_channels, kernels.format), block_channels, kernels.format);
        const int64_t width = block_width(params.expanded_channels, block);
        kernels.pointwise({stored_pixels(x, params.in_channels), row * params.width, rows, params.width, packed + block * panel,
                           width, y, width, pitch, nullptr});
    }
};

// A block without expand reads its input, which has no columns of zeros. Factors and weights of channels that only fill a
// block are zero, so that it does not matter what these hold.
struct Copy {
    const InvertedResidualParams& params;
    const BlockedImage& x;

    void operator()(int64_t block, int64_t row, int64_t rows, uint8_t* y, int64_t pitch) const
    {
        const int64_t width = block_width(params.in_channels, block), stored = stored_width(params.in_channels, block);
        const uint8_t* from = x.data + block * x.plane + row * params.width * stored;
        for (; rows > 0; --rows, y += pitch)
            for (int64_t column = 0; column < params.width; ++column, from += stored)
                std::memcpy(y + column * width, from, static_cast<size_t>(stored));
    }
};

// Calls run(source) for a block's own source of expanded rows.
template <class Run>
void with_source(const Kernels& kernels, const InvertedResidualParams& params, const uint8_t* packed, const BlockedImage& x,
                 const Run& run)
{
    const Expand expand{kernels, params, packed, x};
    const Copy copy{params, x};
    params.has_expand ? run(expand) : run(copy);
}

// A stem's rows of pixels of a block's width, or of the given one; called with consecutive rows, from any on. Keeps the rows of
// pixels that a window reads.
class StemRows {
public:
    StemRows(const Kernels& kernels, const StemParams& params, const uint8_t* packed, const ImageView& x, Scratch& scratch)
        : kernels_(kernels),
          params_(params),
          packed_(packed),
          x_(x),
          pixel_bytes_(pixel_words(params.in_channels) * word_bytes),
          row_bytes_((params.width + 2) * pixel_bytes_),
          outside_(scratch.take(row_bytes_)),
          ring_(scratch.take(ring_rows * row_bytes_))
    {
    }

    // Once there is memory.
    void surround() const
    {
        for (int64_t pixel = 0; pixel < params_.width + 2; ++pixel) put_outside(outside_ + pixel * pixel_bytes_);
        for (int64_t row = 0; row < ring_rows; ++row) {
            put_outside(ring_ + row * row_bytes_);
            put_outside(ring_ + (row + 1) * row_bytes_ - pixel_bytes_);
        }
    }

    void operator()(int64_t block, int64_t row, int64_t, uint8_t* y, int64_t)
    {
        make(block, row, y, block_width(params_.out_channels, block));
    }

    void make(int64_t block, int64_t row, uint8_t* y, int64_t y_width)
    {
        const int64_t first = row * params_.stride - params_.padding.top;
        if (loaded_ < 0) loaded_ = std::max<int64_t>(first, 0);
        for (; loaded_ < std::min(first + kernel_size, params_.height); ++loaded_) load(loaded_);
        const int64_t panel = stem_panel_bytes(params_.in_channels, block_channels, kernels_.format);
        StemRun run{{},
                    pixel_words(params_.in_channels),
                    packed_ + stem_panels + block * panel,
                    block_width(params_.out_channels, block),
                    params_.out_width(),
                    params_.stride,
                    y,
                    y_width};
        for (int64_t ky = 0; ky < kernel_size; ++ky) {
            const int64_t at = first + ky;
            const bool is_inside = at >= 0 && at < params_.height;
            run.rows[ky] = (is_inside ? row_of(at) : outside_) + (1 - params_.padding.left) * pixel_bytes_;
        }
        kernels_.stem(run);
    }

private:
    uint8_t* row_of(int64_t row) const { return ring_ + row % ring_rows * row_bytes_; }

    void put_outside(uint8_t* pixel) const
    {
        std::memset(pixel, 0, static_cast<size_t>(pixel_bytes_));
        std::memcpy(pixel, packed_, static_cast<size_t>(params_.in_channels));
    }

    void load(int64_t row) const
    {
        kernels_.load_row({x_.data + row * x_.stride_h, x_.stride_c, x_.stride_w, params_.in_channels, params_.width,
                           x_.is_float, reinterpret_cast<const float*>(packed_ + stem_factors),
                           reinterpret_cast<const float*>(packed_ + stem_zero_points)},
                          row_of(row) + pixel_bytes_);
    }

    const Kernels& kernels_;
    const StemParams& params_;
    const uint8_t* packed_;
    ImageView x_;
    int64_t pixel_bytes_, row_bytes_;
    uint8_t *outside_, *ring_;
    int64_t loaded_ = -1;  // rows in front of this one are loaded; none yet
};

const Kernels no_kernels{};

}  // namespace

bool is_by_rows(const InvertedResidualParams& params)
{
    return (params.height + 2) * padded_row_bytes(params) > most_whole_bytes;
}

int64_t block_scratch_bytes(const InvertedResidualParams& params)
{
    Scratch scratch;
    BlockMemory(params, is_by_rows(params), scratch);
    return scratch.used();
}

int64_t depthwise_out_bytes(const InvertedResidualParams& params)
{
    return is_by_rows(params) ? 0 : padded_bytes(params.expanded_channels, params.out_height() * params.out_width());
}

int64_t stem_scratch_bytes(const StemParams& params)
{
    Scratch scratch;
    StemRows(no_kernels, params, nullptr, {}, scratch);
    return scratch.used();
}

int64_t stem_and_block_scratch_bytes(const StemParams& stem, const InvertedResidualParams& block)
{
    Scratch scratch;
    StemRows(no_kernels, stem, nullptr, {}, scratch);
    BlockMemory(block, true, scratch);
    return scratch.used();
}

int64_t head_scratch_bytes(const HeadPoolParams& params)
{
    return plane_bytes(params.height * params.width + 1);
}

int64_t linear_scratch_bytes(const LinearParams&)
{
    return most_linear_pixels * block_channels * float_bytes;
}

void run_block_rows(const Kernels& kernels, const InvertedResidualParams& params, const uint8_t* packed, const BlockedImage& x,
                    const BlockedImage& y, const Segment& segment, uint8_t* memory)
{
    Scratch scratch(memory);
    const BlockMemory block_memory(params, true, scratch);
    const BlockRun run(kernels, params, packed, block_memory);
    const Project project{kernels, params, packed, y, params.has_residual ? &x : nullptr};
    with_source(kernels, params, packed, x,
                [&](const auto& source) { run.run_by_rows(source, segment.of(params.out_height()), project); });
}

void run_expand_and_depthwise(const Kernels& kernels, const InvertedResidualParams& params, const uint8_t* packed,
                              const BlockedImage& x, uint8_t* depthwise_out, const Segment& segment, uint8_t* memory)
{
    Scratch scratch(memory);
    const BlockMemory block_memory(params, false, scratch);
    const BlockRun run(kernels, params, packed, block_memory);
    const Range blocks = segment.of(block_count(params.expanded_channels));
    with_source(kernels, params, packed, x, [&](const auto& source) { run.run_by_channels(source, blocks, depthwise_out); });
}

void run_project(const Kernels& kernels, const InvertedResidualParams& params, const uint8_t* packed,
                 const uint8_t* depthwise_out, const BlockedImage& x, const BlockedImage& y, const Segment& segment)
{
    const Range rows = segment.of(params.out_height());
    const Project project{kernels, params, packed, y, params.has_residual ? &x : nullptr};
    if (rows.count() > 0) project(rows.begin, rows.count(), depthwise_out, 0, params.out_height());
}

void run_stem(const Kernels& kernels, const StemParams& params, const uint8_t* packed, const ImageView& x,
              const BlockedImage& y, const Segment& segment, uint8_t* memory)
{
    Scratch scratch(memory);
    StemRows make_row(kernels, params, packed, x, scratch);
    make_row.surround();
    const Range rows = segment.of(params.out_height());
    for (int64_t row = rows.begin; row < rows.end; ++row)
        for (int64_t block = 0; block < block_count(params.out_channels); ++block) {
            const int64_t y_width = stored_width(params.out_channels, block);
            make_row.make(block, row, y.data + block * y.plane + row * params.out_width() * y_width, y_width);
        }
}

void run_stem_and_block(const Kernels& kernels, const StemParams& stem, const InvertedResidualParams& block,
                        const uint8_t* packed_stem, const uint8_t* packed_block, const ImageView& x, const BlockedImage& y,
                        const Segment& segment, uint8_t* memory)
{
    Scratch scratch(memory);
    StemRows make_row(kernels, stem, packed_stem, x, scratch);
    make_row.surround();
    const BlockMemory block_memory(block, true, scratch);
    const Project project{kernels, block, packed_block, y, nullptr};
    BlockRun(kernels, block, packed_block, block_memory).run_by_rows(make_row, segment.of(block.out_height()), project);
}

void run_head_pool(const Kernels& kernels, const HeadPoolParams& params, const uint8_t* packed, const BlockedImage& x,
                   const BlockedImage& y, int64_t pixel, const Segment& segment, uint8_t* scratch)
{
    const int64_t pixels = params.height * params.width, steps = steps_of(params.in_channels, kernels.format);
    float pool;
    std::memcpy(&pool, packed, sizeof pool);
    const float factor = pool / static_cast<float>(pixels);
    const Range blocks = segment.of(block_count(params.out_channels));
    for (int64_t block = blocks.begin; block < blocks.end; ++block) {
        const int64_t width = block_width(params.out_channels, block);
        const uint8_t* const panel = packed + head_panels + block * panel_bytes(steps, block_channels, kernels.format);
        kernels.pointwise({stored_pixels(x, params.in_channels), 0, 1, pixels, panel, width, scratch, width, 0, nullptr});
        uint8_t* const pooled = scratch + plane_bytes(pixels);
        kernels.pool({scratch, pixels, width, factor, pooled});
        const int64_t stored = stored_width(params.out_channels, block);
        std::memcpy(y.data + block * y.plane + pixel * stored, pooled, static_cast<size_t>(stored));
    }
}

void run_linear(const Kernels& kernels, const LinearParams& params, const uint8_t* packed, const BlockedImage& x,
                int64_t pixels, float* y, const Segment& segment, uint8_t* scratch)
{
    const int64_t steps = steps_of(params.in_features, kernels.format);
    auto* const results = reinterpret_cast<float*>(scratch);
    const Range blocks = segment.of(block_count(params.out_features));
    for (int64_t block = blocks.begin; block < blocks.end; ++block) {
        const int64_t channel = block * block_channels, width = block_width(params.out_features, block);
        const uint8_t* const panel = packed + block * panel_bytes(steps, block_channels, kernels.format);
        const int64_t count = std::min(width, params.out_features - channel);
        kernels.linear({stored_pixels(x, params.in_features), pixels, panel, width, results});
        for (int64_t pixel = 0; pixel < pixels; ++pixel)
            std::memcpy(y + pixel * params.out_features + channel, results + pixel * width,
                        static_cast<size_t>(count * float_bytes));
    }
}

void load_image(const ImageView& x, int64_t channels, int64_t height, int64_t width, const BlockedImage& y, int64_t pixel)
{
    for (int64_t block = 0; block < block_count(channels); ++block) {
        const int64_t first = block * block_channels, stored = stored_width(channels, block);
        const int64_t count = std::min(stored, channels - first);
        uint8_t* to = y.data + block * y.plane + pixel * stored;
        for (int64_t row = 0; row < height; ++row)
            for (int64_t column = 0; column < width; ++column, to += stored) {
                const uint8_t* from = x.data + first * x.stride_c + row * x.stride_h + column * x.stride_w;
                for (int64_t channel = 0; channel < count; ++channel) to[channel] = from[channel * x.stride_c];
                std::memset(to + count, 0, static_cast<size_t>(stored - count));
            }
    }
}

void store_image(const BlockedImage& x, int64_t channels, int64_t pixels, uint8_t* y)
{
    for (int64_t block = 0; block < block_count(channels); ++block) {
        const int64_t first = block * block_channels, stored = stored_width(channels, block);
        const size_t count = static_cast<size_t>(std::min(stored, channels - first));
        const uint8_t* from = x.data + block * x.plane;
        for (int64_t pixel = 0; pixel < pixels; ++pixel, from += stored) std::memcpy(y + pixel * channels + first, from, count);
    }
}

}  // namespace mnv2::cpu::int8
