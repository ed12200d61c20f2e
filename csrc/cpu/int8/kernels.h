// What each instruction set provides for int8: one table of microkernels. Loop orders and memory are block.cpp's and
// chain.cpp's.
#pragma once

#include <cstdint>

#include "cpu/int8/format.h"

namespace mnv2::cpu::int8 {

// Consecutive pixels of blocked activations: pixel p of a block stands at data + block * plane + p * the block's width. From
// each pixel of the last block a panel's width may be loaded.
struct Pixels {
    const uint8_t* data;
    int64_t plane;       // bytes from a block of channels to the next
    int64_t channels;    // of all blocks
    int64_t last_width;  // the last block's

    // The width of the block in which this number of channels is left.
    int64_t width(int64_t left) const { return left > block_channels ? block_channels : last_width; }
};

// A panel of a pointwise layer over rows of pixels, which follow one another in x from pixel `first` on.
struct PointwiseRun {
    Pixels x;
    int64_t first, rows, columns;
    const uint8_t* panel;
    int64_t width;            // the panel's
    uint8_t* y;               // the block's first result
    int64_t y_width;          // bytes from a result to the next: the panel's width, or a multiple of 8 below it
    int64_t y_pitch;          // bytes from a row of results to the next
    const uint8_t* shortcut;  // null, or values that lie as y does; from each a panel's width may be loaded
};

// A panel of a linear layer on pixels from the first on; y: for each of them one float a lane.
struct LinearRun {
    Pixels x;
    int64_t pixels;
    const uint8_t* panel;
    int64_t width;
    float* y;
};

// A row of a depthwise block's results. rows: where the first result's window starts in each of its input rows.
struct DepthwiseRun {
    const uint8_t* rows[kernel_size];
    const uint8_t* packed;
    int64_t width, columns;
    int32_t stride;
    uint8_t* y;
};

// A row of one panel of a stem. rows: where the first result's window starts in each row of pixels.
struct StemRun {
    const uint8_t* rows[kernel_size];
    int64_t words;  // a pixel's
    const uint8_t* panel;
    int64_t width, columns;
    int32_t stride;
    uint8_t* y;
    int64_t y_width;  // as a pointwise layer's
};

// One row of an image of any strides, in bytes. Of floats: for each channel what they become bytes with (int8/format.h).
struct ImageRow {
    const uint8_t* data;
    int64_t stride_c, stride_w;
    int64_t channels, columns;
    bool is_float;
    const float *factors, *zero_points;
};

// A block of the head's results: for each channel clamp(rint(float32(sum of its pixels) * factor), 0, 255).
struct PoolRun {
    const uint8_t* x;
    int64_t pixels, width;
    float factor;
    uint8_t* y;
};

struct Kernels {
    Format format;
    void (*pointwise)(const PointwiseRun&);
    void (*linear)(const LinearRun&);
    void (*depthwise)(const DepthwiseRun&);
    void (*stem)(const StemRun&);
    void (*load_row)(const ImageRow&, uint8_t* pixels);  // pixels of whole words, their last bytes zero
    void (*pool)(const PoolRun&);
    double (*dot_burst)(int64_t rounds, int32_t* sink);  // for measurements: simd/peak-inl.h
};

}  // namespace mnv2::cpu::int8
