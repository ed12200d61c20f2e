// One image through one layer on blocked activations: the loop orders, whatever the instruction set.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "cpu/int8/kernels.h"

namespace mnv2::cpu::int8 {

// A blocked image of [blocks][pixels][width].
struct BlockedImage {
    uint8_t* data;
    int64_t plane;  // bytes from a block of channels to the next
};

constexpr int64_t plane_bytes(int64_t pixels)
{
    return pixels * block_channels;
}

constexpr int64_t blocked_bytes(int64_t channels, int64_t pixels)
{
    return pixels * stored_channels(channels);
}

// An (N, C, H, W) tensor of bytes with any strides.
struct ByteView {
    const uint8_t* data;
    int64_t stride_n, stride_c, stride_h, stride_w;
};

// Bytes of scratch for one image, which starts on a cache line.
int64_t block_scratch_bytes(const InvertedResidualParams& params);
int64_t stem_scratch_bytes(const StemParams& params);
int64_t stem_and_block_scratch_bytes(const StemParams& stem, const InvertedResidualParams& block);
int64_t head_scratch_bytes(const HeadPoolParams& params);
int64_t linear_scratch_bytes(const LinearParams& params);

// packed: what pack_block and the others wrote. x of a stem is one image.
void run_block(const Kernels& kernels, const InvertedResidualParams& params, const uint8_t* packed, const BlockedImage& x,
               const BlockedImage& y, uint8_t* scratch);
void run_stem(const Kernels& kernels, const StemParams& params, const uint8_t* packed, const ByteView& x, const BlockedImage& y,
              uint8_t* scratch);
// The block has neither expand nor shortcut; the stem's results are its expanded rows and are never stored.
void run_stem_and_block(const Kernels& kernels, const StemParams& stem, const InvertedResidualParams& block,
                        const uint8_t* packed_stem, const uint8_t* packed_block, const ByteView& x, const BlockedImage& y,
                        uint8_t* scratch);
// y: one pixel.
void run_head_pool(const Kernels& kernels, const HeadPoolParams& params, const uint8_t* packed, const BlockedImage& x,
                   const BlockedImage& y, uint8_t* scratch);
// x: one pixel; y: params.out_features floats.
void run_linear(const Kernels& kernels, const LinearParams& params, const uint8_t* packed, const BlockedImage& x, float* y,
                uint8_t* scratch);

// A layer's borders: one image of any strides to blocks and back to (pixels, channels).
void load_image(const ByteView& x, int64_t channels, int64_t height, int64_t width, const BlockedImage& y);
void store_image(const BlockedImage& x, int64_t channels, int64_t pixels, uint8_t* y);

}  // namespace mnv2::cpu::int8
