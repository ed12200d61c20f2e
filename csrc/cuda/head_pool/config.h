// The forms of head_pool's kernels, and what a launch tells them.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "core/sums.h"
#include "cuda/common/epilogue.h"

namespace mnv2::cuda {

constexpr int head_chunk_pixels = 56;  // pixels of an image at a time: MobileNetV2 has 49, which are tiles of eight

struct HeadPoolArguments {
    const void* x;
    const uint32_t* packed;
    void* y;
    int64_t batch;
    int pixels, in_channels, out_channels;
    int splits;       // parts of the channels
    int64_t tasks;    // a task is a set of images and a part of the channels
    int groups;       // mma: groups of 32 channels
    int part_groups;  // mma: groups in a part of the channels
    int depth;        // mma: in_channels, padded to whole steps
    int chunk_depth;  // mma: depths that are in shared memory at a time
    int row_bytes;    // mma: bytes of a pixel's row there
    Epilogue epilogue;
};

constexpr int head_group_channels = 32;
constexpr int head_row_tiles = head_group_channels / 16;
constexpr int head_column_tiles = head_chunk_pixels / 8;
constexpr int head_step_depth = 16;
constexpr int head_fragment_words = 128;
constexpr int head_step_words = head_row_tiles * head_fragment_words;

// image_sets warps have the same channels of different images.
struct HeadMmaShape {
    int warp_images, image_sets, warps;
};

// For batches that fill the GPU: four images share the weights that come from L2. Small batches get as many blocks as possible.
constexpr HeadMmaShape large_batch{.warp_images = 2, .image_sets = 2, .warps = 8};
constexpr HeadMmaShape small_batch{.warp_images = 1, .image_sets = 1, .warps = 2};

template <class Element, HeadMmaShape shape>
struct HeadPoolMma {
    using T = Element;
    static constexpr int warp_images = shape.warp_images, image_sets = shape.image_sets, warps = shape.warps;
    static constexpr int images = warp_images * image_sets, threads = 32 * warps;
    static constexpr int groups = warps / image_sets;  // groups of channels at a time
};

// Bytes of a pixel's row in shared memory: an odd number of 32 bytes, so that four pixels of a fragment lie in different
// banks.
inline int head_row_bytes(int chunk_depth)
{
    return chunk_depth * 2 + (chunk_depth / head_step_depth % 2 == 0 ? 32 : 0);
}

template <class Shape>
int head_shared_rows(int pixels)
{
    // The tiles of the last image are read whole: what they hold beyond its pixels may be anything, and is not used.
    return (Shape::images - 1) * (pixels < head_chunk_pixels ? pixels : head_chunk_pixels) + head_chunk_pixels;
}

constexpr int head_scalar_warps = 8, head_scalar_threads = 32 * head_scalar_warps;
constexpr int head_scalar_images = 2;
constexpr int head_image_warps = head_scalar_warps / head_scalar_images;
constexpr int head_thread_pixels = head_chunk_pixels / head_image_warps;
constexpr int head_scalar_rows = head_scalar_images * head_chunk_pixels;
constexpr int head_scalar_depth = 32;                           // depths of each of two buffers in shared memory
constexpr int head_run_chunks = sum_depth / head_scalar_depth;  // chunks that are added up in a row
static_assert(head_run_chunks * head_scalar_depth == sum_depth);
constexpr int head_padded_channels = 128;

template <class Element, int channels_per_thread>
struct HeadPoolScalar {
    using X = Element;
    static constexpr int thread_channels = channels_per_thread, channels = 32 * thread_channels;
    static constexpr int input_floats = head_scalar_rows * head_scalar_depth, weight_floats = head_scalar_depth * channels;
    static constexpr int buffer_floats = input_floats + weight_floats;
    static constexpr int bytes = 2 * buffer_floats * static_cast<int>(sizeof(float));
    static_assert(head_scalar_warps * channels <= buffer_floats);  // a buffer holds the warps' sums in the end
};

}  // namespace mnv2::cuda
