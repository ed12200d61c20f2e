// One image through one layer on blocked activations: the loop orders, whatever the instruction set.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "cpu/int8/kernels.h"
#include "cpu/range.h"

namespace mnv2::cpu::int8 {

// A blocked image of [blocks][pixels][stored width].
struct BlockedImage {
    uint8_t* data;
    int64_t plane;  // bytes from a block of channels to the next
};

constexpr int64_t plane_bytes(int64_t pixels)
{
    return pixels * block_channels;
}

// With the room behind the last pixel.
constexpr int64_t blocked_bytes(int64_t channels, int64_t pixels)
{
    const int64_t last = block_count(channels) - 1, width = stored_width(channels, last);
    return pixels * (last * block_channels + width) + block_width(channels, last) - width;
}

// An (N, C, H, W) tensor with any strides, in bytes. Stems take floats, too.
struct ImageView {
    const uint8_t* data;
    int64_t stride_n, stride_c, stride_h, stride_w;
    bool is_float = false;
};

// One of `count` tasks that share a layer, each on a thread and in scratch of its own. Results depend on neither.
struct Segment {
    int64_t index = 0, count = 1;

    Range of(int64_t size) const { return {size * index / count, size * (index + 1) / count}; }
};

// Whether a block goes through its image by rows, for which tasks share rows: run_block_rows. The others share channels in
// run_expand_and_depthwise and, once all have done that, rows in run_project.
bool is_by_rows(const InvertedResidualParams& params);

// Bytes of a task's scratch, which starts on a cache line, and of the depthwise results of a block by channels.
int64_t block_scratch_bytes(const InvertedResidualParams& params);
int64_t depthwise_out_bytes(const InvertedResidualParams& params);
int64_t stem_scratch_bytes(const StemParams& params);
int64_t stem_and_block_scratch_bytes(const StemParams& stem, const InvertedResidualParams& block);
int64_t head_scratch_bytes(const HeadPoolParams& params);
int64_t linear_scratch_bytes(const LinearParams& params);

// packed: what pack_block and the others wrote. x of a stem is one image.
void run_block_rows(const Kernels& kernels, const InvertedResidualParams& params, const uint8_t* packed, const BlockedImage& x,
                    const BlockedImage& y, const Segment& segment, uint8_t* scratch);
void run_expand_and_depthwise(const Kernels& kernels, const InvertedResidualParams& params, const uint8_t* packed,
                              const BlockedImage& x, uint8_t* depthwise_out, const Segment& segment, uint8_t* scratch);
void run_project(const Kernels& kernels, const InvertedResidualParams& params, const uint8_t* packed,
                 const uint8_t* depthwise_out, const BlockedImage& x, const BlockedImage& y, const Segment& segment);
void run_stem(const Kernels& kernels, const StemParams& params, const uint8_t* packed, const ImageView& x,
              const BlockedImage& y, const Segment& segment, uint8_t* scratch);
// The block has neither expand nor shortcut; the stem's results are its expanded rows and are never stored.
void run_stem_and_block(const Kernels& kernels, const StemParams& stem, const InvertedResidualParams& block,
                        const uint8_t* packed_stem, const uint8_t* packed_block, const ImageView& x, const BlockedImage& y,
                        const Segment& segment, uint8_t* scratch);
// Pooled images are the pixels of y, this one the given pixel. Tasks share output channels.
void run_head_pool(const Kernels& kernels, const HeadPoolParams& params, const uint8_t* packed, const BlockedImage& x,
                   const BlockedImage& y, int64_t pixel, const Segment& segment, uint8_t* scratch);
// Pixels of a linear layer that read each panel together: one by one its bytes would come from the second-level cache for each.
constexpr int64_t most_linear_pixels = 16;
// pixels: at most most_linear_pixels. y: params.out_features floats for each of them. Tasks share output channels.
void run_linear(const Kernels& kernels, const LinearParams& params, const uint8_t* packed, const BlockedImage& x,
                int64_t pixels, float* y, const Segment& segment, uint8_t* scratch);

// A layer's borders: one image of any strides to blocks, from a pixel of y on, and back to (pixels, channels).
void load_image(const ImageView& x, int64_t channels, int64_t height, int64_t width, const BlockedImage& y, int64_t pixel = 0);
void store_image(const BlockedImage& x, int64_t channels, int64_t pixels, uint8_t* y);

}  // namespace mnv2::cpu::int8
